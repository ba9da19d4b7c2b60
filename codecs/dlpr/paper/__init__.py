"""The paper profile: DLPR as published (Bai et al., TPAMI 2024), float, to train, to ablate and to compare with.

One file per part: profile, gdn, blocks, swin, entropy_models, lic, context, entropy_net, mixture, model, loss, codec.
Importing it needs torch (extras gpu, train). Its streams are read only by the machine that wrote them (fingerprint).
"""
