"""Training a generated model: some of its parameters by selectors, frozen, adapted, in groups, in another dtype.

from motc import freeze, lora, optimizer_groups, parameters, unfreeze
"""
