"""The paper's tables, trained and measured again by one command. Knows no training step and no metric."""
