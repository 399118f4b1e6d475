"""The proxy score of validation pictures, computed in separate processes while training runs."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from warp_train.runtime.worker_pool import WorkerPool
from warp_train.runtime.worker_process import JobError
from warp_train.training.protocols import ProxyResult
from warp_train.training.proxy_scoring import SUB_SCORES, Pictures, start_scoring

_LOOK_S = 0.2
_STUCK_S = 120.0
"""A scorer that takes longer for a picture is considered to hang."""
_HURRY_S = 10.0
"""For all pending pictures after a signal: the sender will end the program soon."""


@dataclass(frozen=True)
class ProxyScores:
    """The means of one validation."""

    step: int
    epoch: int
    values: dict[str, float]


class ProxyHook:
    """Scores the pictures of one validation at a time; after a failure it warns once and is off.

    `begin`, `submit` each batch, then `collect` or `wait_for` the scores, which are returned once.
    """

    def __init__(
        self, scorer: str, warn: Callable[[str], None], *, workers: int, max_samples: int
    ) -> None:
        """Args:
        scorer: `module:function`; it is imported where it runs.
        workers: processes; 0 to score in this one, which then waits.
        max_samples: pictures of a validation; further ones are not scored.
        """
        self._scorer: str | None = scorer
        self._warn = warn
        self._max_samples = max_samples
        load = partial(start_scoring, scorer)
        self._score_here = load()
        # Training ends within the seconds that a scheduler leaves it, and a hanging scorer must not
        # delay that: its processes get no time to clear up.
        self._pool = WorkerPool(load, workers, patience=0) if workers else None
        self._place = (0, 0)
        self._calls: list[Future[ProxyResult | str]] = []

    @property
    def room(self) -> int:
        """How many more pictures of this validation are scored."""
        return self._max_samples - len(self._calls) if self._scorer else 0

    def begin(self, step: int, epoch: int) -> None:
        """A new validation; forgets what is left of the one before."""
        for call in self._calls:
            call.cancel()
        self._place, self._calls = (step, epoch), []

    def submit(self, pred: Tensor, target: Tensor) -> None:
        """Has pictures `[B, 3, H, W]` in 0..1 scored, as many as there is room for."""
        room = max(self.room, 0)
        if room:
            pictures = zip(_to_rgb(pred[:room]), _to_rgb(target[:room]), strict=True)
            self._calls += map(self._call, pictures)

    def collect(self) -> ProxyScores | None:
        """The scores, if they are all there by now."""
        return self._result() if all(call.done() for call in self._calls) else None

    def wait_for(self, hurry: Callable[[], bool] = lambda: False) -> ProxyScores | None:
        """The scores as soon as they are all there; None if there are none to come.

        Args:
            hurry: called while waiting; True if the program has to end soon.
        """
        waiting, last_news, deadline = set(self._calls), time.monotonic(), float("inf")
        while waiting:
            done, waiting = wait(waiting, _LOOK_S, FIRST_COMPLETED)
            now = time.monotonic()
            if done:
                last_news = now
            if hurry():
                deadline = min(deadline, now + _HURRY_S)
            if waiting and now > min(deadline, last_news + _STUCK_S):
                self._switch_off(
                    f"proxy.scorer is switched off: {len(waiting)} pictures of step "
                    f"{self._place[0]} are still not scored"
                )
                return None
        return self._result()

    def close(self) -> None:
        """Ends the scoring processes at once."""
        if self._pool is not None:
            self._pool.close()
        self._scorer, self._pool, self._calls = None, None, []

    def __enter__(self) -> "ProxyHook":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, pictures: Pictures) -> Future[ProxyResult | str]:
        if self._pool is not None:
            return self._pool.submit(pictures)
        here = Future[ProxyResult | str]()
        here.set_result(self._score_here(pictures))
        return here

    def _result(self) -> ProxyScores | None:
        """The means of the finished calls; a single failure ends the scoring."""
        results: list[ProxyResult] = []
        for call in self._calls:
            try:
                result = call.result()
            except JobError as failed:
                result = f"proxy.scorer is switched off: its process {failed.how}"
            if isinstance(result, str):
                self._switch_off(result)
                return None
            results.append(result)
        self._calls = []
        return ProxyScores(*self._place, mean_scores(results)) if results else None

    def _switch_off(self, why: str) -> None:
        self._warn(why)
        self.close()


def mean_scores(results: Sequence[ProxyResult]) -> dict[str, float]:
    """Means as metrics: `proxy/total_score`, `proxy/<sub>`, `proxy/hard_fail_frac`."""
    return {
        "proxy/total_score": fmean(r["total_score"] for r in results),
        **{f"proxy/{sub}": fmean(r["sub_scores"][sub] for r in results) for sub in SUB_SCORES},
        "proxy/hard_fail_frac": fmean(r["flags"]["hard_fail"] for r in results),
    }


def _to_rgb(images: Tensor) -> list[NDArray[np.float32]]:
    return list(images.detach().float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())
