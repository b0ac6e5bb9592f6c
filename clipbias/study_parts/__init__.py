"""What ``clipbias study`` is made of: the file's schema, reading it, the plan, the steps and their progress."""
