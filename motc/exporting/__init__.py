"""A model with its weights, as other programs take it: a folder of Hugging Face's, a program of torch.export, ONNX."""
