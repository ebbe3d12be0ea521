"""torch to ONNX: each graph of a run exported, rounded to INT8 where asked, and its parity with torch."""
