"""Random networks and random plans, judged by an oracle that shares nothing with the verifier."""
