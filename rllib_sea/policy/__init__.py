"""The policy under alignment: models by name, tokenization, samplers, its RLModule."""

from rllib_sea.memory import garbage_kept

# What Transformers' models need is imported here, where whoever needs it comes by first: a quarter
# of a process's start was the search for garbage.
with garbage_kept():
    import transformers.core_model_loading
    import transformers.models.auto.modeling_auto  # noqa: F401
