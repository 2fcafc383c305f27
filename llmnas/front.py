"""The accuracy-latency front of a run, and the one answer chosen from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmnas.records import Latency, Settings, Trial


def cost(trial: Trial, device: str | None) -> float | None:
    """Returns what the trial costs to run: ms on `device` when known, else MACs; None when neither is known."""
    if device is not None and device in trial.latency:
        return trial.latency[device].ms
    return float(trial.counts.macs) if trial.counts else None


def front(trials: Iterable[Trial], device: str | None) -> list[Trial]:
    """Returns the trials that no other beats in search score and cost together, cheapest first. O(n log n).

    Trials that are not trained or break a constraint are left out.
    """
    points = [(price, -score, trial.n, trial) for trial in trials
              if (score := trial.score) is not None and not trial.violates
              and (price := cost(trial, device)) is not None]
    found: list[Trial] = []
    best = float("-inf")
    for _, negative, _, trial in sorted(points):
        if -negative > best:
            best = -negative
            found.append(trial)
    return found


def choose(trials: Sequence[Trial], settings: Settings, device: str | None) -> tuple[Trial | None, str]:
    """Returns the answer among trained trials, and why it is the answer.

    With ``min_accuracy`` it is the least cost that reaches it (the highest score when none does); otherwise the
    highest score within the constraints. Finalists are compared by their full training, and a training that a
    deadline cut counts only when there is no other. A tie goes to the cheaper one, then to the earlier one. When no
    trained trial keeps the constraints, the highest score of all is returned and the reason says so.
    """
    scored = [trial for trial in trials if _merit(trial) is not None]
    finalists = [trial for trial in scored if "full" in trial.trained]
    scored = finalists or [trial for trial in scored if trial.score is not None] or scored
    legal = [trial for trial in scored if not trial.violates]
    if not scored:
        return None, "nothing was trained"

    def price(trial: Trial) -> float:
        return cost(trial, device) or 0.0

    def merit(trial: Trial) -> tuple[float, float, int]:
        return (-(_merit(trial) or 0.0), price(trial), trial.n)

    if not legal:
        best = min(scored, key=merit)
        return best, "no trained architecture keeps the constraints; this is the highest score without them"
    if settings.min_accuracy is not None:
        reaching = [trial for trial in legal if (_merit(trial) or 0.0) >= settings.min_accuracy]
        if reaching:
            return min(reaching, key=lambda trial: (price(trial), trial.n)), (
                f"the least latency among those with a search score of at least {settings.min_accuracy:g}")
        return min(legal, key=merit), f"none reached {settings.min_accuracy:g}; this is the highest score"
    return min(legal, key=merit), "the highest search score within the constraints"


def _merit(trial: Trial) -> float | None:
    """Returns the validation score a choice goes by: of the full rung where there is one, else of the short one."""
    found = trial.trained.get("full") or trial.trained.get("short")
    return None if found is None else found.val_score


def violations(settings: Settings, *, params: int, memory_mb: float, latency: Latency | None) -> tuple[str, ...]:
    """Returns the constraints that are broken, in words; a constraint on an unknown figure is not broken."""
    found = []
    if settings.max_params is not None and params > settings.max_params:
        found.append(f"{params:,} parameters exceed {settings.max_params:,}")
    if settings.max_memory_mb is not None and memory_mb > settings.max_memory_mb:
        found.append(f"{memory_mb:.2f} MB exceed {settings.max_memory_mb:g} MB")
    if settings.max_latency_ms is not None and latency is not None and latency.ms > settings.max_latency_ms:
        found.append(f"{latency.ms:.3g} ms ({latency.source}) exceed {settings.max_latency_ms:g} ms")
    return tuple(found)
