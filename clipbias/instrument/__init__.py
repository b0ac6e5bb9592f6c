"""The instrument put together: a recipe, one model measured by it, and the proof on planted truth."""
