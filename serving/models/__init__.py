"""What runs inside tritonserver: the ensembles' Python steps and the engines' backends."""
