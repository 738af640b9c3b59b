"""The paper's tables and figures as experiments: what each needs, what it measures, what it says of the claims."""
