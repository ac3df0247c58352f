"""Training: the LightningModule, trainer, logger, optimizers and checkpointing."""
