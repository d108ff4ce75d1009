"""The task families; importing this package registers every task."""

from proxies.tasks import (
    adversarial,
    contrastive,
    deep,
    denoising,
    digits,
    finetuning,
    landscapes,
    numbers,
    photos,
    quadratic,
    recurrent,
    sampled,
    tables,
    teacher,
    topics,
    vision,
)

__all__ = [
    "adversarial",
    "contrastive",
    "deep",
    "denoising",
    "digits",
    "finetuning",
    "landscapes",
    "numbers",
    "photos",
    "quadratic",
    "recurrent",
    "sampled",
    "tables",
    "teacher",
    "topics",
    "vision",
]
