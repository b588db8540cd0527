"""What a run leaves behind, read once for the plugin and for the commands, and who has its folder."""
