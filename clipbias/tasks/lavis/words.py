"""A vocabulary as LAVIS wants its tokenizer, which is BERT's: marks at both ends, the first one to be overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from clipbias.tasks.vocabulary import Vocabulary


class LavisTokenizer(PreTrainedTokenizerFast):
    """The tokenizer of a vocabulary, under the names that LAVIS uses.

    LAVIS fetches BERT's from the hub, adds ``[DEC]`` and ``[ENC]``, and writes one of them over the first token of every
    text; here the vocabulary's own marks of a beginning and of an answer take their places, so that all numbers stay.
    """

    vocabulary: Vocabulary
    enc_token_id: int

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> LavisTokenizer:
        """Return the tokenizer of a vocabulary."""
        own = vocabulary.tokenizer
        core = Tokenizer.from_str(own.backend_tokenizer.to_str())
        bos, eos = own.bos_token, own.eos_token
        core.post_processor = TemplateProcessing(
            single=f"{bos}:0 $A:0 {eos}:0",
            special_tokens=[(bos, vocabulary.bos_id), (eos, vocabulary.eos_id)],
        )
        made = cls(
            tokenizer_object=core, pad_token=own.pad_token, unk_token=own.unk_token, bos_token=bos, eos_token=eos,
            sep_token=eos, clean_up_tokenization_spaces=False,
        )  # fmt: skip
        made.vocabulary = vocabulary
        made.enc_token_id = vocabulary.ans_id
        return made

    def __len__(self) -> int:
        return len(self.vocabulary)

    def decode(self, token_ids: Any, *args: Any, **options: Any) -> str:
        """Return the words of a row of token numbers, as the vocabulary writes them."""
        return self.vocabulary.decode([token_ids])[0]

    def batch_decode(self, sequences: Any, *args: Any, **options: Any) -> list[str]:
        """Return the words of each row of token numbers."""
        return self.vocabulary.decode(sequences)
