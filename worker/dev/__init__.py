"""The process of `wsd dev`: an application, served by workers that share their memory, and replaced when it changes."""
