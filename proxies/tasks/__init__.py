"""The task families; importing this package registers every task."""

from proxies.tasks import digits, photos, quadratic, topics

__all__ = ["digits", "photos", "quadratic", "topics"]
