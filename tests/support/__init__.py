"""What several tests share: commands typed, sounds and voices made, tolerances."""
