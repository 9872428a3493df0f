"""The Procfile buildpack's own code: standard library only, run by the build image's interpreter."""
