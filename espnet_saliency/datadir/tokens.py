"""Stage 5: the tokens of a recogniser, in ESPnet's form."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import Iterable, Iterator

from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir

BLANK, UNK, SOS_EOS, SPACE = "<blank>", "<unk>", "<sos/eos>", "<space>"

TOKEN_TYPES = ("bpe", "char", "word")

# Longer sentences are skipped by SentencePiece without a word (4192 bytes by default).
_MAX_SENTENCE_BYTES = 1 << 24


def make_token_list(
    texts: Iterable[str], out_dir: Path, token_type: str = "bpe", nbpe: int = 500
) -> Path:
    """Write out_dir/tokens.txt, one token a line; return its path.

    `<blank>`, `<unk>`, the tokens, `<sos/eos>`: what ESPnet's asr.sh (stage 5) makes of the same
    texts. bpe: pieces of a SentencePiece unigram model with all characters covered, in the model's
    order, and out_dir/bpe.model beside them; out_dir/train.txt has its texts. char (a blank is
    `<space>`) and word: by falling number of occurrences, then in order of appearance.

    Args:
        texts: transcripts of the training set.
        out_dir: folder to write, whole or not at all; an older one is replaced.
        token_type: "bpe", "char" or "word".
        nbpe: number of bpe tokens, the special ones included.

    Raises:
        UserError: another token type; texts without a letter; nbpe that the texts do not allow.
    """
    if token_type not in TOKEN_TYPES:
        raise UserError(f"--token_type {token_type}: one of {', '.join(TOKEN_TYPES)}")
    with atomic_dir(out_dir) as temporary:
        train = temporary / "train.txt"
        _write_texts(texts, train, out_dir)
        if token_type == "bpe":
            model = _train_bpe(train, nbpe)
            (temporary / "bpe.model").write_bytes(model)
            tokens = _pieces(model)
        else:
            tokens = _by_count(train, token_type)
        with open(temporary / "tokens.txt", "w", encoding="utf-8", newline="\n") as out:
            out.writelines(f"{token}\n" for token in (BLANK, UNK, *tokens, SOS_EOS))
    return out_dir / "tokens.txt"


def _write_texts(texts: Iterable[str], path: Path, named: Path) -> None:
    letters = False
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        for text in texts:
            line = " ".join(text.split())
            out.write(line + "\n")
            letters = letters or any(map(str.isalnum, line))
    # SentencePiece would end the whole program.
    if not letters:
        raise UserError(f"{named}: the training texts have no letter; look at the training set")


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8", newline="\n") as handle:
        for line in handle:
            yield line.rstrip("\n")


def _train_bpe(texts: Path, nbpe: int) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    try:
        # Lines, not the file's name: SentencePiece splits it at commas and keeps it in the model.
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            vocab_size=nbpe,
            model_type="unigram",
            character_coverage=1.0,
            input_sentence_size=100_000_000,
            max_sentence_length=_MAX_SENTENCE_BYTES,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"--nbpe {nbpe}: {_say(str(error))}") from error
    return model.getvalue()


def _say(message: str) -> str:
    """SentencePiece's message on the size of its vocabulary, in our words."""
    if most := re.search(r"too high .*<= (\d+)", message):
        return (
            f"the training texts support {most[1]} bpe tokens at most; give --nbpe {most[1]} or "
            "less, or --token_type char"
        )
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return f"the training texts need {least[1]} bpe tokens at least; give --nbpe {least[1]}"
    return f"SentencePiece says: {' '.join(message.split())}"


def _pieces(model: bytes) -> list[str]:
    """The pieces of a model without its own <unk>, <s> and </s>, which come first."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]


def _by_count(texts: Path, token_type: str) -> list[str]:
    counts: Counter[str] = Counter()
    for line in _lines(texts):
        counts.update(line.split(" ") if token_type == "word" else line)
    if token_type == "word":
        del counts[""]
    # A stable sort: equal counts stay in order of appearance.
    ranked = sorted(counts, key=lambda token: -counts[token])
    return [SPACE if token == " " else token for token in ranked]
