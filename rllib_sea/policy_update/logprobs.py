"""Log-probabilities of responses under a causal language model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers
from torch import nn
from torch.nn import functional

from rllib_sea.policy_update.batching import (
    Layout,
    ResponseBatch,
    collate,
    sum_by_response,
)
from rllib_sea.policy_update.scores import PromptResponses


class ResponseLogits(nn.Module):
    """A causal language model that gives the logits of responses' tokens.

    Logits are computed where a response token is predicted, nowhere else: with a vocabulary
    of 49k they cost more than the transformer.

    Args:
        model: A Hugging Face causal language model.
        bf16: Compute under bf16 autocast. It is entered here, inside of the module, because
            DeepSpeed's engine leaves an autocast that was entered around it.
    """

    def __init__(self, model: transformers.PreTrainedModel, *, bf16: bool = False) -> None:
        super().__init__()
        self.model = model
        self._bf16 = bf16

    def forward(self, batch: ResponseBatch) -> torch.Tensor:
        """(T, V) next-token logits at ``batch.predictor``, in the precision computed in."""
        if not self._bf16:
            return self._logits(batch)
        with torch.autocast(self.model.device.type, torch.bfloat16):
            return self._logits(batch)

    def _logits(self, batch: ResponseBatch) -> torch.Tensor:
        mask = batch.attention_mask
        if mask.dim() == 4:
            mask = _additive(mask, self._compute_dtype())
        hidden = self.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state
        return self.model.get_output_embeddings()(hidden.flatten(0, 1)[batch.predictor])

    def _compute_dtype(self) -> torch.dtype:
        device = self.model.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.model.dtype


def response_log_probs(logits: torch.Tensor, batch: ResponseBatch) -> torch.Tensor:
    """(S,) log-probabilities of a batch's responses, summed over tokens, in nats.

    Args:
        logits: (T, V) what :class:`ResponseLogits` gives for the batch.
        batch: The batch.
    """
    logps = -functional.cross_entropy(logits.float(), batch.target, reduction="none")
    return sum_by_response(logps, batch)


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where a query sees a key, the most negative number where it does not."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, torch.finfo(dtype).min
    )


@torch.no_grad()
def slow_log_probs(
    model: transformers.PreTrainedModel, prompts: Sequence[PromptResponses]
) -> torch.Tensor:
    """What :func:`response_log_probs` gives, one sequence at a time by the model's own logits.

    Returns:
        (S,) log-probabilities.
    """
    sums = []
    for prompt in prompts:
        first = len(prompt.prompt_token_ids) - 1
        for response in prompt.responses:
            ids = torch.tensor([[*prompt.prompt_token_ids, *response]], device=model.device)
            logits = model(input_ids=ids, use_cache=False).logits[0]
            logps = torch.log_softmax(logits.float(), dim=-1)
            sums.append(logps[first:-1].gather(1, ids[0, first + 1 :, None]).sum())
    return torch.stack(sums)


@torch.no_grad()
def choose_layout(model: transformers.PreTrainedModel) -> Layout:
    """Finds out, on the model itself, which layout is exact for it.

    Args:
        model: A Hugging Face causal language model in float32.

    Returns:
        ``"packed"`` if its attention takes the mask that this layout needs, else ``"plain"``.

    Raises:
        ValueError: If the model changes its logits after the output embedding, or if
            neither layout gives its own log-probabilities.
    """
    rng = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary, (count,), generator=rng).tolist())

    prompts = [
        PromptResponses(tokens(7), (tokens(5), tokens(3))),
        PromptResponses(tokens(4), (tokens(2), tokens(6), tokens(1))),
    ]
    expected = slow_log_probs(model, prompts)
    if _changes_logits(model, prompts[0].prompt_token_ids):
        raise ValueError(
            f"{type(model).__name__}: it scales or caps the logits that its output embedding "
            "gives; this architecture is not supported"
        )
    scorer = ResponseLogits(model)
    # A mask of one's own overrides a sliding window, which the short check would not notice.
    slides = getattr(model.config, "sliding_window", None) is not None
    layouts: list[Layout] = ["plain"] if slides else ["packed", "plain"]
    for layout in layouts:
        try:
            batch = collate(prompts, layout).to(model.device)
            got = response_log_probs(scorer(batch), batch)
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue  # an architecture that rejects the layout
        if torch.allclose(got, expected, atol=2e-2, rtol=1e-3):
            return layout
    raise ValueError(
        f"{type(model).__name__}: log-probabilities from its hidden states and output embedding "
        "differ from its own logits'; this architecture is not supported"
    )


def _changes_logits(model: transformers.PreTrainedModel, token_ids: Sequence[int]) -> bool:
    """Whether a model's logits are something else than what its output embedding gives."""
    given = []

    def magnify(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        given.append(1e3 * output)  # a soft cap shows in large logits only
        return given[-1]

    hook = model.get_output_embeddings().register_forward_hook(magnify)
    try:
        input_ids = torch.tensor([token_ids], device=model.device)
        logits = model(input_ids=input_ids, use_cache=False).logits
    finally:
        hook.remove()
    return not torch.equal(logits, given[-1])
