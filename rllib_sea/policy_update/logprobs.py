"""Log-probabilities of responses under a causal language model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers
from torch import nn
from torch.nn import functional

from rllib_sea.policy.model_folder import is_recurrent
from rllib_sea.policy_update.batching import (
    Layout,
    ResponseBatch,
    collate,
    sum_by_response,
)
from rllib_sea.policy_update.scores import PromptResponses

# By which configurations name a window or a chunk of attention.
WINDOWS = ("sliding_window", "sliding_window_size", "window_size", "attention_chunk_size")
# Of sums over at most 6 tokens, in float32. The plain layout is the model's own way of reading.
CLOSE: dict[Layout, tuple[float, float]] = {"packed": (2e-3, 1e-4), "plain": (2e-2, 1e-3)}


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
        # Of experts: a loss that would be computed from a mask of another shape, for nobody.
        balances = getattr(model.config, "output_router_logits", False)
        self._options = {"output_router_logits": False} if balances else {}

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

        def only_predictors(head: nn.Module, args: tuple[torch.Tensor]) -> torch.Tensor:
            return args[0].flatten(0, 1)[batch.predictor]

        # By the model's own forward pass: some scale or cap what the output embedding gives.
        with self.model.get_output_embeddings().register_forward_pre_hook(only_predictors):
            return self.model(
                input_ids=batch.input_ids,
                attention_mask=mask,
                position_ids=batch.position_ids,
                use_cache=False,
                **self._options,
            ).logits

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
        ValueError: If neither layout gives its own log-probabilities.
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
    scorer = ResponseLogits(model)
    layouts: list[Layout] = ["packed", "plain"] if _sees_all(model) else ["plain"]
    for layout in layouts:
        try:
            batch = collate(prompts, layout).to(model.device)
            got = response_log_probs(scorer(batch), batch)
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue  # an architecture that rejects the layout
        absolute, relative = CLOSE[layout]
        if torch.allclose(got, expected, atol=absolute, rtol=relative):
            return layout
    raise ValueError(
        f"{type(model).__name__}: log-probabilities of several sequences at once differ from those "
        "of one at a time; this architecture is not supported"
    )


def _sees_all(model: transformers.PreTrainedModel) -> bool:
    """Whether every token sees all earlier ones that a mask lets it see, and nothing else.

    A mask of one's own overrides a window or a chunk of attention, and does not reach a recurrence
    or a convolution over the row; the short check would not notice.
    """
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    narrows = any(getattr(config, key, None) is not None for key in WINDOWS)
    return not is_recurrent(model) and not narrows and set(layers) == {"full_attention"}
