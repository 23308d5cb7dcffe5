"""How good are the answers: scores with intervals, and the baselines that stand beside them."""
