"""The default caption templates of things and of styles."""

CAPTIONS = ("a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "a rendering of {}", "{}")
"""The default caption templates of a concept's pictures; {} stands for its token."""

PHOTO_CAPTIONS = ("a photo of {}",)
"""The default caption template of photographs, on which the large models are trained."""

STYLE_CAPTIONS = (
    "a painting in the style of {}", "a picture in the style of {}", "an image in the style of {}",
    "a drawing in the style of {}", "a rendering in the style of {}", "in the style of {}",
)  # fmt: skip
"""The default caption templates of a style."""


def is_style(class_word: str) -> bool:
    """Whether the class word says that the concept is a style: it is "style"."""
    return class_word.strip().lower() == "style"
