"""Networks from outside as Graphs: ONNX files, and Graphs back to ONNX."""

from pimloom.frontends.onnx import load_onnx
from pimloom.frontends.onnx_write import save_onnx, to_onnx

__all__ = ["load_onnx", "save_onnx", "to_onnx"]
