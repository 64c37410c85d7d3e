"""The policy as an RLModule: samples in a round, decodes greedily in an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.annotations import override

from rllib_sea.policy.audit import PublishedWeights, audit
from rllib_sea.policy.sampler import Sampler, make_sampler


class VLLMPolicyModule(RLModule):
    """A language model behind a sampler.

    ``model_config`` has ``model_path``, ``sampler``, ``sampler_config``, ``sampling`` (a
    :class:`rllib_sea.duels.records.SamplingConfig`) and ``max_model_len``. The engine starts
    with :meth:`start`.
    """

    framework = "torch"
    _sampler: Sampler | None = None

    @override(RLModule)
    def setup(self) -> None:
        """Nothing yet: see :meth:`start`."""

    def start(self) -> None:
        """Starts the engine."""
        config = self.model_config
        self._sampler = make_sampler(
            config["sampler"],
            Path(config["model_path"]),
            config["max_model_len"],
            config["sampler_config"],
        )

    @property
    def sampler(self) -> Sampler:
        """The started engine."""
        if self._sampler is None:
            raise RuntimeError("the engine is not started: call start()")
        return self._sampler

    @property
    def policy_version(self) -> int:
        """Version of the weights it samples from."""
        return self.sampler.policy_version

    def set_weights(self, published: PublishedWeights, version: int) -> float:
        """Replaces the weights in place, and audits the engine.

        Args:
            published: The weights and what they say of the probe.
            version: Their version.

        Returns:
            The gap in nats per token; see :func:`rllib_sea.policy.audit.audit`.

        Raises:
            SamplerGapError: The engine does not sample from them.
        """
        self.sampler.load_weights(published.tensors, version)
        return audit(self.sampler, published.probe)

    def rest(self) -> None:
        """Gives back the memory that the engine needs only while it samples."""
        self.sampler.rest()

    def close(self) -> None:
        """Releases the engine."""
        if self._sampler is not None:
            self._sampler.close()

    @override(RLModule)
    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Samples ``num_responses`` to each prompt.

        ``batch`` has ``prompt_token_ids`` and ``seeds``, B each, ``num_responses``, and
        ``sampling`` if it is not that of ``model_config``.
        """
        sampling = batch.get("sampling", self.model_config["sampling"])
        candidates = self.sampler.generate(
            batch["prompt_token_ids"], batch["num_responses"], sampling, batch["seeds"]
        )
        return {"candidates": candidates}

    @override(RLModule)
    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Decodes one response greedily: ``prompt_token_ids``, B of them."""
        token_ids = batch["prompt_token_ids"]
        sampling = self.model_config["sampling"].greedy()
        return {"candidates": self.sampler.generate(token_ids, 1, sampling, [0] * len(token_ids))}

    @override(RLModule)
    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        raise RuntimeError("the policy is trained in the Ray Train run, not by an RLlib learner")

    @override(RLModule)
    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The version: weights are the Ray Train run's."""
        return {"policy_version": self.policy_version}

    @override(RLModule)
    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to do: weights come through :meth:`set_weights`."""
