"""Who may do what, and how much of it: keys, limits, and the audit trail."""
