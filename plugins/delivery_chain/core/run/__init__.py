"""How a run ended, from what its steps left and what people did to it."""
