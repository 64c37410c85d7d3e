"""The epistemic reward model (ERM): encoder, ensemble, learner, replay."""
