"""Explanations of a program: names, prose, equations, pictures and its nearest known optimizer."""
