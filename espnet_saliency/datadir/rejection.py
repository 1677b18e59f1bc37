"""What does not go on, and why: rejected.tsv."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Iterable

from espnet_saliency.corpora.utterance import Rejection
from espnet_saliency.errors import UserError

HEADER = "utt_id\tstage\treason\n"


class RejectionLog:
    """Writes rejections to a table as they come, and counts them by kind.

    A reason is "kind" or "kind: details"; it is the kind that is counted. The file is there also
    when the `with` block ends in an error: that is when somebody wants to read it.

    Args:
        path: the table, tab-separated, with a header.

    Attributes:
        count: rejections so far.
        kinds: kind -> how many.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.count = 0
        self.kinds: Counter[str] = Counter()

    def add(self, rejection: Rejection) -> None:
        """Take one more."""
        self.count += 1
        self.kinds[rejection.reason.partition(":")[0]] += 1
        fields = (rejection.utt_id, rejection.stage, rejection.reason)
        # An id out of a broken table may hold anything; a tab or line end would shift the columns.
        self._handle.write("\t".join(" ".join(field.split()) for field in fields) + "\n")

    def extend(self, rejections: Iterable[Rejection]) -> None:
        """Take several more."""
        for rejection in rejections:
            self.add(rejection)

    def commonest(self, n: int = 3) -> str:
        """The `n` commonest kinds with their counts: "file missing (12), not audio (1)"."""
        ranked = sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{kind} ({count})" for kind, count in ranked[:n])

    def __enter__(self) -> RejectionLog:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = open(
            self.path, "w", encoding="utf-8", errors="backslashreplace", newline="\n"
        )
        self._handle.write(HEADER)
        return self

    def __exit__(self, kind, value, trace) -> None:
        self._handle.close()


def check_reject_share(log: RejectionLog, total: int, max_reject: float, where: str) -> None:
    """Refuse to go on where too much was rejected.

    Args:
        log: what was rejected.
        total: utterances there were, the rejected ones included.
        max_reject: the share that may be rejected, 0 to 1.
        where: what is prepared, for the message, e.g. "stage 1 of edacc".

    Raises:
        UserError: with the counts, the three commonest reasons, the list and the mend.
    """
    if log.count > max_reject * total:
        raise UserError(
            f"{where}: {log.count} of {total} utterances ({100 * log.count / total:.1f} %) were "
            f"rejected, more than --max_reject {max_reject:g}: {log.commonest()}; see {log.path}, "
            "and mend the files or raise --max_reject"
        )
