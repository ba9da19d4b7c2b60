"""The paper profile: DLPR as published (Bai et al., TPAMI 2024), float, a CompressAI model to train and to ablate.

One file per part: profile, blocks, swin, lic, context, entropy_net, mixture, model, loss, residual, codec. GDN, the
entropy models and the base class are CompressAI's (extra paper). Its streams are read only by the machine that wrote
them (fingerprint). `context` and `mixture` need torch alone.
"""
