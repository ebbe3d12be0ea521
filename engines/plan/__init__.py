"""What any plan of TensorRT's needs: the library's log and progress, the GPU, execution contexts, the engine.

`engines.tensorrt` builds plans for this engine; a further TensorRT shares this folder and has one of
its own for its build.
"""
