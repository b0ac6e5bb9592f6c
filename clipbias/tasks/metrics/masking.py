"""Hide words of a caption that name a group, and words that another captioner does not have."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from clipbias.tasks.metrics.words import Words, as_captions, load_words, tokens

MASK = "genderword"
UNKNOWN_WORD = "<unk>"
# How captioners spell the word that stands for words they do not know.
_UNKNOWN_SPELLINGS = frozenset(("<unk>", "unk", "<unknown>"))


def mask_captions(
    captions: Iterable[str],
    words: Words | None = "lic2022",
    *,
    vocabulary: Collection[str] | None = None,
    mask: str = MASK,
) -> list[str]:
    """Return captions as lower-case words with blanks between, group words masked.

    Parameters
    ----------
    captions : iterable of str
    words : str, WordList, mapping or None
        Whose words are masked; None masks nothing (an attribute that captions do not name).
    vocabulary : collection of str, optional
        Words that may stay; any other becomes ``"<unk>"``, as captioners write it. Give human captions the
        vocabulary of the captioner, or a classifier tells them apart by rare words.
    mask : str

    Returns
    -------
    list of str
    """
    hidden = load_words(words).words if words is not None else frozenset()
    kept = frozenset(vocabulary) if vocabulary is not None else None

    def shown(word: str) -> str:
        if word in hidden:
            return mask
        if word in _UNKNOWN_SPELLINGS or (kept is not None and word not in kept):
            return UNKNOWN_WORD
        return word

    return [" ".join(map(shown, tokens(caption))) for caption in as_captions(captions)]


def vocabulary_of(captions: Iterable[str]) -> frozenset[str]:
    """Return every word of the captions."""
    return frozenset(word for caption in captions for word in tokens(caption))
