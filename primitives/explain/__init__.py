"""A program for people: names, prose, equations, pictures and its nearest known optimizer."""
