"""The measures of an evaluation: pure functions, pictures as tensors in and numbers as arrays out."""
