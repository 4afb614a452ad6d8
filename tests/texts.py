"""Specs that are hard to get right, for more than one test; and of a spec one layer, for what no layer changes."""

WIDTHS = """
model widths {
  width = 32, layers = 2, vocab = 57
  modality image, text, state, action
  attention { heads = 4, kv_heads = 2, head_dim = 8 }
  ffn { kind = geglu, hidden = 40 }
  tower vlm = image, text
  tower expert = state, action { width = 16, ffn { hidden = 24 } }
  untie attention, ffn, norm, embedding, head
  untie ffn.norm as {image} {text} {state} {action} in layer 1
}
"""
UNLIKE = """
model unlike {
  width = 32, layers = 2, vocab = 57
  modality text, image, speech
  attention { heads = 4, qk_norm = layer, mask { bidirectional = image } }
  ffn { hidden = 40 }
  norm { kind = layer, placement = post }
  tower gen = image {
    attention { qk_norm = none, bias = true }, ffn { kind = relu2, hidden = 24, bias = true }, norm { kind = rms }
  }
  tower und = text, speech
  untie attention, ffn, norm
}
"""


def of_one_layer(text: str) -> str:
    """A spec of two layers that are alike, with one; another as it is."""
    return text.replace("layers = 2", "layers = 1")
