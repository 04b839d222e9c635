"""The table of wrong uses: what a user does wrong, and the exact error that it gives."""
