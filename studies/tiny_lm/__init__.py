"""The tiny-language-model tier: the whole plugin on a decoder that is fitted on the spot."""
