"""The experiment that the shipped weights and defaults come from: rows, their trainings, what came of them."""
