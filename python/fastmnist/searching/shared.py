"""Trials shared between processes and machines, in an Optuna storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fastmnist.searching.trial import Trial

_RECORD, _JOB = "fastmnist trial", "fastmnist job"


class Store:
    """The trials of one search in an Optuna study; each process takes what no other has begun.

    A claim is a running trial of the study. What a process began and never finished stays claimed:
    others leave it out.
    """

    def __init__(self, study: Any) -> None:
        self._study = study
        self._claimed: dict[str, int] = {}

    def result(self, key: str, rung: int) -> Trial | None:
        """What another process measured."""
        job = _job(key, rung)
        for trial in self._study.get_trials(deepcopy=False):
            if trial.user_attrs.get(_JOB) == job and _RECORD in trial.user_attrs:
                return Trial.of_record(json.loads(trial.user_attrs[_RECORD]))
        return None

    def claim(self, key: str, rung: int) -> bool:
        """Begin a trial; False where another process was first."""
        job = _job(key, rung)
        trial = self._study.ask()
        trial.set_user_attr(_JOB, job)
        same = [t.number for t in self._study.get_trials() if t.user_attrs.get(_JOB) == job]
        if min(same) < trial.number:
            self._study.tell(trial.number, state=_state("PRUNED"))
            return False
        self._claimed[job] = trial.number
        return True

    def add(self, trial: Trial) -> None:
        """Tell the others what was measured."""
        number = self._claimed.pop(_job(trial.key, trial.rung), None)
        if number is None:
            return
        handle = self._study.get_trials()[number]
        storage = self._study._storage
        storage.set_trial_user_attr(handle._trial_id, _RECORD, json.dumps(trial.as_record()))
        self._study.tell(number, [trial.drop, trial.latency, float(trial.size)])


def opened(storage: Any, settings: Mapping[str, Any]) -> Store | None:
    """Join the study of this search; None where nothing is to be shared.

    Raises
    ------
    ImportError
        If Optuna is not installed.
    ValueError
        If the storage cannot be opened.
    """
    if storage is None:
        return None
    try:
        import optuna
    except ImportError:
        raise ImportError(
            "storage needs Optuna: pip install optuna, or the extra fastmnist[search]"
        ) from None
    text = json.dumps(settings, sort_keys=True, default=str)
    name = f"fastmnist-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    level = optuna.logging.get_verbosity()
    try:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            storage=storage, study_name=name, directions=["minimize"] * 3, load_if_exists=True
        )
    except Exception as error:  # of Optuna's, or of its database
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"storage: expected one that Optuna opens, got {first}") from None
    finally:
        optuna.logging.set_verbosity(level)
    return Store(study)


def _job(key: str, rung: int) -> str:
    return f"{rung} {key}"


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
