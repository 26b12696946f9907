"""Bugs sown on purpose (C18): each is put into a copy of the repository, and the tests named for it must fail.

    python tests/mutants.py [WORD ...]        those whose name holds a word, or all; minutes, since a test starts torch

Prints a line a bug: which test killed it, or that it lived, which is a hole in the tests. The tests must pass first as things are. That
every bug still has its place in the source is looked at by the ordinary suite (tests/test_mutants.py).
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("bertlab", "tests", "configs", "recipes", "docs", "README.md", "setup.cfg", "pyproject.toml", "ruff.toml", "constraints.txt")


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands once in `file` (under bertlab/), becomes `new`: one of the tests named must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


LOOP = "tests/training/test_loop.py"
CONTRAST = "tests/training/test_contrastive.py"
GROUPS = "tests/batches/test_sentence_groups.py"
MASKING = "tests/batches/test_masking.py"
PAIRS = "tests/batches/test_pairs.py"
BATCHES = "tests/batches/test_pretraining.py"
ENCODER = "tests/model/test_encoder.py"
VOCABULARY = "tests/model/test_vocabulary.py"
ATTENTION = "tests/model/test_attention.py"
PARTS = "tests/model/test_learnt_parts.py"
MEASURES = "tests/tasks/test_measures.py"
RECIPE = "tests/tasks/test_recipe.py"
TWO = "tests/tasks/test_two_processes.py"
RANKS = "tests/reliability/test_ranks.py"

MUTANTS = (
    # --- losses over the global batch
    Mutant(
        "the vocabulary: each block's exponentials are taken for shares of the sum of all",
        "model/vocabulary.py",
        "labels, shares / total * counted, *kept",
        "labels, torch.ones_like(shares) / total * counted, *kept",
        (f"{VOCABULARY}::test_the_vocabulary_loss_and_its_gradient_are_those_of_cross_entropy",),
    ),
    Mutant(
        "the vocabulary: ignored places have a gradient",
        "model/vocabulary.py",
        "labels, shares / total * counted, *kept",
        "labels, shares / total, *kept",
        (f"{VOCABULARY}::test_ignored_places_are_in_no_vocabulary_loss_and_have_no_gradient",),
    ),
    Mutant(
        "the vocabulary: under bf16 ignored places have a gradient",
        "model/vocabulary.py",
        "for_bias += errors.mul_(counted).sum(0)",
        "for_bias += (errors * counted).sum(0)",
        (f"{VOCABULARY}::test_ignored_places_are_in_no_vocabulary_loss_and_have_no_gradient",),
    ),
    Mutant(
        "the vocabulary: under bf16 the 1 goes off what has been rounded",
        "model/vocabulary.py",
        "                part.copy_(errors)\n",
        "                part.copy_(errors.scatter_add(1, answers, counted.float())).scatter_add_(1, answers, -counted.to(part.dtype))\n",
        (f"{VOCABULARY}::test_of_bf16_logits_the_loss_is_fp32_and_the_gradient_rounded_once",),
    ),
    Mutant(
        "accumulation adds up means (the mainstream's M1)",
        "training/loop.py",
        "accelerator.backward((parts / divisors).sum() * accelerator.num_processes)",
        "accelerator.backward((parts / torch.tensor(objective.counts(batch)).clamp(min=1)).sum() * accelerator.num_processes)",
        (f"{LOOP}::test_the_gradient_is_the_same_however_the_global_batch_is_cut",),
    ),
    Mutant(
        "mean of means",
        "training/loop.py",
        "accelerator.backward((parts / divisors).sum() * accelerator.num_processes)",
        "accelerator.backward((parts / torch.tensor(objective.counts(batch)).clamp(min=1)).sum() / len(batches))",
        (f"{LOOP}::test_the_gradient_is_the_same_however_the_global_batch_is_cut",),
    ),
    Mutant(
        "a step without a masked token is divided by zero (M7)",
        "training/loop.py",
        "divisors = torch.where(divisors > 0, divisors, 1.0)",
        "divisors = torch.where(divisors > 0, divisors, divisors)",
        (f"{LOOP}::test_a_micro_batch_without_masked_tokens_adds_only_its_pairs",),
    ),
    Mutant(
        "a step whose gradient is NaN is taken",
        "training/loop.py",
        "                if not skipped:\n                    optimizer.step()",
        "                optimizer.step()",
        (f"{LOOP}::test_a_step_whose_gradient_is_not_finite_is_skipped_and_changes_nothing",),
    ),
    Mutant(
        "dropout is the same in every step",
        "training/loop.py",
        "return ((seed * 1_000_003 + step) * 65_537 + micro) % 2**63",
        "return (seed * 1_000_003 * 65_537 + micro) % 2**63",
        (f"{LOOP}::test_dropout_differs_between_steps_and_between_micro_batches",),
    ),
    Mutant(
        "filler is counted as pairs",
        "batches/flat.py",
        "return len(self.cu_seqlens) - 1 - self.filler_sequences",
        "return len(self.cu_seqlens) - 1",
        (f"{LOOP}::test_filler_changes_neither_losses_nor_counts_nor_gradients",),
    ),
    # --- vectors trained by contrast
    Mutant(
        "the way back draws other dropout masks",
        "training/contrastive.py",
        "use_reentrant=False)",
        "use_reentrant=False, preserve_rng_state=False)",
        (f"{CONTRAST}::test_the_way_back_meets_the_same_dropout_masks",),
    ),
    Mutant(
        "Matryoshka: length 1 before the cut",
        "training/contrastive.py",
        "F.normalize(vectors[:, :width], dim=1)",
        "F.normalize(vectors, dim=1)[:, :width]",
        (f"{CONTRAST}::test_matryoshka_sums_the_losses_of_prefixes_scaled_after_the_cut",),
    ),
    Mutant(
        "what is no negative, the wrong way round for the positives",
        "training/contrastive.py",
        "left_out[:, :n].T",
        "left_out[:, :n]",
        (f"{CONTRAST}::test_a_positive_does_not_choose_among_anchors_equal_to_it",),
    ),
    Mutant(
        "memory that was freed stays with the process",
        "training/processes.py",
        "        trim(0)",
        "        pass",
        ("tests/training/test_processes.py::test_what_was_freed_between_other_blocks_goes_back_to_the_system",),
    ),
    Mutant(
        "a job of embedding keeps what its parts have freed",
        "embedding/job.py",
        "        give_back_freed_memory()\n",
        "",
        ("tests/embedding/test_job.py::test_the_memory_of_a_part_is_given_back_when_it_is_written",),
    ),
    Mutant(
        "of several processes each learns a part of the gradient",
        "training/contrastive.py",
        "gradient[ctx.own] * distributed.get_world_size()",
        "gradient[ctx.own]",
        (f"{CONTRAST}::test_several_processes_have_the_losses_and_gradients_of_one",),
    ),
    Mutant(
        "of several processes each has its own negatives",
        "training/contrastive.py",
        "        distributed.all_reduce(vectors)  # each row is one process's and 0 in all others: no rounding\n",
        "",
        (f"{CONTRAST}::test_several_processes_have_the_losses_and_gradients_of_one",),
    ),
    Mutant(
        "all processes draw the same dropout masks",
        "training/loop.py",
        "number * accelerator.num_processes + accelerator.process_index",
        "number",
        (f"{CONTRAST}::test_a_text_that_two_processes_embed_has_another_vector_in_each",),
    ),
    Mutant(
        "a process without an anchor trains on masked words that another has",
        "batches/sentence_groups.py",
        "np.full_like(labels, IGNORED, np.int64) if is_filler else labels.astype(np.int64)",
        "labels.astype(np.int64)",
        (
            f"{CONTRAST}::test_several_processes_have_the_losses_and_gradients_of_one",
            f"{GROUPS}::test_what_is_hidden_of_a_text_is_the_same_whichever_process_has_it",
        ),
    ),
    Mutant(
        "a share's sequences stand at the beginning of the batch",
        "batches/sentence_groups.py",
        "**mine.encoder_inputs(), first=first,",
        "**mine.encoder_inputs(),",
        (f"{GROUPS}::test_a_share_has_its_sequences_and_knows_of_all",),
    ),
    Mutant(
        "equal positives are each other's negatives",
        "batches/sentence_groups.py",
        " | (positives[:, None] == candidates)",
        "",
        (f"{GROUPS}::test_what_means_the_same_is_no_negative",),
    ),
    Mutant(
        "a text is drawn as its own neighbour",
        "batches/sentence_groups.py",
        "away = 1 + ",
        "away = 0 + ",
        (f"{GROUPS}::test_a_neighbour_is_another_sentence_of_the_document",),
    ),
    Mutant(
        "vectors that are all equal find everything",
        "embedding/likeness.py",
        "near >= best[:, None] - 1e-7",
        "near > best[:, None]",
        ("tests/embedding/test_likeness.py::test_vectors_that_are_all_equal_find_nothing",),
    ),
    Mutant(
        "two models are resampled on different texts",
        "embedding/likeness.py",
        "(after - before) @ weights",
        "(after @ weights - before @ weights[::-1])",
        ("tests/embedding/test_likeness.py::test_both_models_are_resampled_on_the_same_texts",),
    ),
    # --- masks
    Mutant(
        "a short sequence may have no mask (M7)",
        "batches/masking.py",
        "np.maximum(1, np.rint(self.rate * lengths))",
        "np.rint(self.rate * lengths)",
        (f"{MASKING}::test_google_mode_chooses_exactly_the_count_of_berts_data_script",),
    ),
    Mutant(
        "random replacements may be special tokens (M8)",
        "batches/masking.py",
        "ordinary = np.flatnonzero(~self.special)",
        "ordinary = np.arange(len(self.special))",
        (f"{MASKING}::test_no_special_token_is_chosen_and_none_but_the_mask_is_drawn",),
    ),
    Mutant(
        "81/10/9 instead of 80/10/10",
        "batches/masking.py",
        "np.where(action < 0.9, random_ids, labels)",
        "np.where(action < 0.89, random_ids, labels)",
        (f"{MASKING}::test_of_the_chosen_eighty_per_cent_become_the_mask_ten_a_random_token_and_ten_stay",),
    ),
    Mutant(
        "one stream of masks for the whole batch",
        "batches/masking.py",
        "counter = (np.arange(len(ids)) - starts[sequence]) * _DRAWS\n        keys = derive(pair_keys, 0)[sequence]",
        "counter = np.arange(len(ids)) * _DRAWS\n        keys = derive(pair_keys[:1], 0)[0 * sequence]",
        (f"{MASKING}::test_the_mask_of_a_sequence_does_not_depend_on_its_neighbours",),
    ),
    Mutant(
        "labels are those of the next token",
        "batches/masking.py",
        "labels = ids[positions]",
        "labels = ids[np.minimum(positions + 1, len(ids) - 1)]",
        (f"{MASKING}::test_originals_are_rebuilt_from_the_masked_ids_and_the_labels",),
    ),
    Mutant(
        "words are cut at pieces of another sequence",
        "batches/masking.py",
        "& eligible[:-1] & (sequence[1:] == sequence[:-1]))",
        "& eligible[:-1])",
        (f"{MASKING}::test_whole_words_are_those_of_a_plain_loop_over_words",),
    ),
    # --- pairs and epochs
    Mutant(
        "a random B may be of the same document",
        "batches/pairs.py",
        "    other += other >= document\n",
        "",
        (f"{PAIRS}::test_a_random_b_is_of_the_other_document_even_where_there_are_only_two",),
    ),
    Mutant(
        "next-sentence labels are turned round",
        "batches/pretraining.py",
        "pairs.is_random.astype(np.int64)",
        "(~pairs.is_random).astype(np.int64)",
        (f"{BATCHES}::test_two_documents_are_enough",),
    ),
    Mutant(
        "every epoch has the pairs and masks of the first (a set_epoch that is missing)",
        "batches/pretraining.py",
        "key=randomness.key(self.seed, epoch, _PAIRS)",
        "key=randomness.key(self.seed, 0, _PAIRS)",
        (
            f"{BATCHES}::test_epochs_and_seeds_differ_in_their_pairs",
            f"{BATCHES}::test_a_pair_that_comes_again_in_another_epoch_has_another_mask",
        ),
    ),
    Mutant(
        "fine-tuning sees its examples in one order (a set_epoch that is missing)",
        "batches/labelled.py",
        "randomness.key(seed, epoch)",
        "randomness.key(seed, 0)",
        ("tests/batches/test_labelled.py::test_shuffled_differs_between_epochs_and_seeds_and_is_the_same_when_asked_again",),
    ),
    Mutant(
        "truncation takes from the front alone",
        "batches/pairs.py",
        "a_start=address[document] + a_before + binomial_half(a_cut, chunk_key, _FRONT_A)",
        "a_start=address[document] + a_before + a_cut",
        (f"{PAIRS}::test_the_plan_is_the_rules_applied_sentence_by_sentence",),
    ),
    Mutant(
        "a chunk that ends before the sentence that its last token begins",
        "batches/pairs.py",
        "np.flatnonzero(self.before[end] <= last)",
        "np.flatnonzero(self.before[end] < last)",
        (f"{PAIRS}::test_the_plan_is_the_rules_applied_sentence_by_sentence",),
    ),
    Mutant(
        "a shuffle that leaves the order",
        "batches/randomness.py",
        "    ranked.sort()\n",
        "",
        ("tests/batches/test_randomness.py::test_the_shuffle_sorts_by_the_upper_half_of_the_draws",),
    ),
    Mutant(
        "labels are not part of a batch's fingerprint",
        "batches/fingerprint.py",
        ", batch.mlm_positions[masked], batch.mlm_labels[masked])",
        ", batch.mlm_positions[masked])",
        ("tests/batches/test_fingerprint.py::test_every_number_that_the_model_or_the_loss_sees_counts",),
    ),
    # --- model
    Mutant(
        "padding is attended to",
        "model/attention.py",
        "beta = 0 if added is None else 1",
        "beta = 0",
        (f"{ENCODER}::test_a_sequence_alone_is_what_it_is_among_others", f"{ATTENTION}::test_in_bf16_words_a_neighbour_changes_no_bit"),
    ),
    Mutant(
        "scores are divided by the head size, not by its root",
        "model/attention.py",
        "alpha=query.shape[-1] ** -0.5)",
        "alpha=query.shape[-1] ** -1.0)",
        (f"{ATTENTION}::test_in_bf16_words_attention_is_the_fp32_kernel_s_but_for_the_roundings",),
    ),
    Mutant(
        "positions do not start again with each sequence",
        "batches/flat.py",
        '"position_ids": torch.from_numpy(ragged_arange(lengths))',
        '"position_ids": torch.arange(len(input_ids))',
        ("tests/batches/test_flat.py::test_the_five_fields_are_those_worked_out_by_hand",),
    ),
    Mutant(
        "the last block does the work of every token, and its outputs are picked afterwards",
        "model/encoder.py",
        "            hidden = checkpoint(block, *inputs, use_reentrant=False) if self.recompute and self.training else block(*inputs)\n",
        "            hidden = checkpoint(block, *inputs, use_reentrant=False) if self.recompute and self.training else block(*inputs[:2])\n"
        "            hidden = hidden if inputs[2] is None else hidden[inputs[2].places]\n",
        (f"{ENCODER}::test_states_of_some_places_and_their_gradients_are_those_among_all",),
    ),
    Mutant(
        "the residual of the last block is another token's",
        "model/encoder.py",
        "hidden if asked is None else hidden[asked.places])",
        "hidden[: len(context)])",
        (f"{ENCODER}::test_states_of_some_places_and_their_gradients_are_those_among_all",),
    ),
    Mutant(
        "the queries of the last block are computed for all tokens",
        "model/encoder.py",
        "if asked is None or asked.packing is None:",
        "if True:",
        (f"{ENCODER}::test_states_of_some_places_and_their_gradients_are_those_among_all",),
    ),
    Mutant(
        "two queries of a sequence lie in one row",
        "model/attention.py",
        "return Asked(places, _packing(where, groups, sequences, within, apart=True))",
        "return Asked(places, _packing(where, groups, sequences, within.clamp(max=1), apart=True))",
        (f"{ATTENTION}::test_asked_tokens_have_their_contexts_among_all",),
    ),
    Mutant(
        "a place at a sequence's start is taken for the sequence before",
        "model/attention.py",
        "places.cpu(), right=True)",
        "places.cpu(), right=False)",
        (f"{ATTENTION}::test_asked_tokens_have_their_contexts_among_all",),
    ),
    Mutant(
        "the kernel attends to padding",
        "model/attention.py",
        "attn_mask=added, dropout_p=dropout)",
        "dropout_p=dropout)",
        (f"{ATTENTION}::test_long_sequences_in_fp32_and_other_devices_have_the_kernel_and_it_says_the_same",),
    ),
    Mutant(
        "attention: padding of the buffer holds another sequence's numbers",
        "model/attention.py",
        "flat.index_select(0, self.taken).index_fill_(0, self.padding, 0)",
        "flat.index_select(0, self.taken)",
        (f"{ATTENTION}::test_in_bf16_words_a_neighbour_changes_no_bit",),
    ),
    Mutant(
        "attention's way back forgets the dropped weights",
        "model/attention.py",
        "torch.bmm(_kept(weights, mask).transpose(1, 2), above, out=for_value)",
        "torch.bmm(weights.transpose(1, 2), above, out=for_value)",
        (f"{ATTENTION}::test_in_bf16_words_dropout_falls_on_its_share_of_the_weights_and_keeps_their_mean",),
    ),
    Mutant(
        "attention's way back lets a dropped weight have a gradient",
        "model/attention.py",
        "for_weights = _kept(above @ value.transpose(1, 2), mask)",
        "for_weights = above @ value.transpose(1, 2)",
        (f"{ATTENTION}::test_with_dropout_the_gradients_are_those_of_the_mask_that_was_drawn",),
    ),
    Mutant(
        "attention: the gradient of keys is not scaled",
        "model/attention.py",
        "for_scores.transpose(1, 2), query, beta=0, alpha=scale, out=for_key)",
        "for_scores.transpose(1, 2), query, beta=0, alpha=1, out=for_key)",
        (f"{ATTENTION}::test_attention_and_its_gradient_are_those_of_the_definition",),
    ),
    Mutant(
        "filler of masked places asks one sequence for all of them",
        "batches/flat.py",
        "torch.arange(masks) * (last // max(1, masks))",
        "torch.zeros(masks, dtype=torch.long)",
        ("tests/batches/test_flat.py::test_filler_of_masked_places_lies_in_many_sequences",),
    ),
    Mutant(
        "reading alone: a mean over layers leaves the places out",
        "model/frozen.py",
        "state = hidden if number == wanted[-1] else kept(hidden)",
        "state = hidden if number == wanted[-1] else hidden[: len(kept(hidden))]",
        ("tests/model/test_frozen.py::test_states_of_some_places_are_those_among_all_to_the_bit",),
    ),
    # --- optimizers
    Mutant(
        "biases and LayerNorm decay",
        "training/optimizers.py",
        'if parameter.ndim < 2], "weight_decay": 0.0, ',
        'if parameter.ndim < 2], "weight_decay": weight_decay, ',
        ("tests/training/test_optimizers.py::test_every_parameter_is_stepped_by_one_optimizer_and_only_matrices_decay",),
    ),
    Mutant(
        "the first step of the warm-up has a rate of 0",
        "training/optimizers.py",
        "return (step + 1) / warmup_steps",
        "return step / warmup_steps",
        ("tests/training/test_optimizers.py::test_the_rate_rises_over_the_warm_up_and_falls_towards_zero",),
    ),
    Mutant(
        "Adam's step counts are not restored",
        "training/optimizers.py",
        "        optimizer.state[parameter][key] = like(value, own)",
        '        optimizer.state[parameter][key] = like(value, own) * (key != "step")',
        ("tests/training/test_optimizers.py::test_restored_optimizers_step_as_the_ones_they_were_taken_from",),
    ),
    Mutant(
        "Muon iterates in fp32 where the training is in bf16",
        "verbs/pretrain.py",
        "bf16=uses_bf16(accelerator.device, config.precision),",
        "bf16=False,",
        ("tests/verbs/test_pretrain.py::test_muon_iterates_in_the_precision_of_training",),
    ),
    # --- what a recipe asks for
    Mutant(
        "fine-tuning: weighted losses are divided by the number of examples",
        "training/objectives.py",
        "[len(labels) if self.weights is None else float(self.weights[labels].double().sum())]",
        "[len(labels)]",
        ("tests/training/test_objectives.py::test_weighted_classes_have_torchs_weighted_mean_over_the_whole_step_however_it_is_cut",),
    ),
    Mutant(
        "fine-tuning: balanced epochs begin each class anew",
        "batches/labelled.py",
        "places // classes + epoch * -((of_class - len(self)) // classes)",
        "places // classes",
        ("tests/batches/test_labelled.py::test_a_balanced_epoch_visits_all_classes_alike_and_every_example_before_any_is_visited_again",),
    ),
    Mutant(
        "every process takes the first share of a batch of several tasks",
        "tasks/together.py",
        'micro_batches(data[name].encoded["train"], recipes[name], seed, rank, ranks, before)',
        'micro_batches(data[name].encoded["train"], recipes[name], seed, 0, ranks, before)',
        (f"{TWO}::test_two_processes_leave_what_one_leaves",),
    ),
    Mutant(
        "the processes of several tasks do not share gradients",
        "tasks/together.py",
        "wrapped = accelerator.prepare(model)",
        "wrapped = model",
        (f"{TWO}::test_two_processes_leave_what_one_leaves",),
    ),
    Mutant(
        "every process says what came of a trial",
        "tasks/search.py",
        'accelerator.print(f"trial',
        'print(f"trial',
        (f"{TWO}::test_every_line_is_said_once",),
    ),
    Mutant(
        "fine-tuning: an equal score is a better one to early stopping",
        "tasks/recipe.py",
        "len(scores) - 1 - scores.index(max(scores))",
        "scores[::-1].index(max(scores))",
        (f"{RECIPE}::test_a_seed_has_stalled_after_so_many_epochs_without_a_better_score",),
    ),
    Mutant(
        "fine-tuning: a seed that is stopped has a schedule of its own",
        "tasks/seeds.py",
        "        plan_of(recipe, steps, seed),",
        "        plan_of(recipe, min(steps, (recipe.early_stopping or epochs) * per_epoch * 2), seed),",
        (f"{RECIPE}::test_a_stopped_seed_is_the_whole_one_cut_short",),
    ),
    Mutant(
        "fine-tuning: adapters of query, key and value are passed over",
        "model/encoder.py",
        "if len(linear) < len(parts):",
        'linear = [getattr(part, "base_layer", part) for part in parts]\n    if False:',
        (f"{PARTS}::test_the_product_of_every_adapted_matrix_is_more_than_its_matrix",),
    ),
    Mutant(
        "fine-tuning: adapters are thrown away when a seed is done",
        "tasks/seeds.py",
        "merge_adapters(adapted)",
        "adapted.unload()",
        (f"{RECIPE}::test_a_model_learnt_by_adapters_is_an_ordinary_folder",),
    ),
    Mutant(
        "fine-tuning: one layer fewer is frozen",
        "model/learnt_parts.py",
        "bert.encoder.layer[:blocks]",
        "bert.encoder.layer[: blocks - 1]",
        (f"{PARTS}::test_embeddings_and_lowest_layers_have_no_gradient_and_all_others_have_the_same_as_before",),
    ),
    Mutant(
        "fine-tuning: layers that begin anew keep their LayerNorm",
        "model/learnt_parts.py",
        "if isinstance(module, nn.LayerNorm):",
        "if False:",
        (f"{PARTS}::test_the_top_layers_and_the_pooler_begin_anew_and_nothing_else_does",),
    ),
    Mutant(
        "fine-tuning: with layer decay the embeddings have the heads' rate",
        "training/optimizers.py",
        "(blocks + 1) * (",
        "0 * (",
        ("tests/training/test_optimizers.py::test_with_layer_decay_each_layer_has_a_share_of_the_rate_of_the_one_above",),
    ),
    Mutant(
        "fine-tuning: a seed as good as one answer for all has not failed",
        "pages/results.py",
        'task.score(state["dev"]) <= floor',
        'task.score(state["dev"]) < floor',
        (f"{RECIPE}::test_a_seed_that_learns_nothing_is_counted_and_told",),
    ),
    Mutant(
        "what fine-tuning says: a class of as many examples as will do is told as rare",
        "tasks/measures.py",
        "if counts[place] < fewer}",
        "if counts[place] <= fewer}",
        ("tests/verbs/test_finetune.py::test_classes_of_few_examples_are_told_the_rarest_first_and_at_most_five_of_them",),
    ),
    Mutant(
        "what fine-tuning says: conflicting labels of test are not looked for",
        "tasks/measures.py",
        "conflicting_labels(*map(as_texts, data.splits.values()))",
        'conflicting_labels(as_texts(data.splits["train"]), as_texts(data.splits["dev"]))',
        ("tests/verbs/test_finetune.py::test_what_is_wrong_with_labels_is_told_once_and_of_all_splits",),
    ),
    Mutant(
        "what fine-tuning says: a pair of which one text is empty has no word",
        "tasks/measures.py",
        "[a + b for a, b in zip(texts.texts, texts.texts_b, strict=True)]\n    return [id",
        "texts.texts\n    return [id",
        (f"{MEASURES}::test_a_pair_has_no_word_where_neither_text_has_one",),
    ),
    Mutant(
        "what fine-tuning says: the rate of adapters is told and that of whole matrices taken",
        "tasks/seeds.py",
        "learning_rate=rate, weight_decay",
        "learning_rate=rate_of(replace(recipe, lora_rank=None), hidden_size)[0], weight_decay",
        (f"{RECIPE}::test_the_rate_that_is_told_is_the_one_that_is_taken",),
    ),
    Mutant(
        "evaluate: other data of the same model is the same scores",
        "verbs/evaluate.py",
        'if same_model and same_vectors and text_at(before, "data", "sha256") == text_at(origins, "data", "sha256"):',
        "if same_model and same_vectors:",
        ("tests/verbs/test_evaluate.py::test_scores_of_another_model_or_of_other_data_are_not_replaced_in_silence",),
    ),
    Mutant(
        "evaluate: the manifest of a model folder is taken away",
        "verbs/evaluate.py",
        '!= "predictions":',
        '== "run":',
        ("tests/verbs/test_evaluate.py::test_a_folder_that_is_no_evaluation_keeps_its_manifest",),
    ),
    Mutant(
        "report: the page's place is said before it is there",
        "verbs/report.py",
        "    finished = write_report(out, folders, corpus, config.live, texts=config.texts, label=config.label)\n    print(",
        "    finished = print(out) or write_report(out, folders, corpus, config.live, texts=config.texts, label=config.label)\n    print(",
        ("tests/verbs/test_report.py::test_the_page_goes_into_the_run_or_where_it_is_asked_for",),
    ),
    Mutant(
        "against the baseline: the worse one is called better",
        "tasks/measures.py",
        'better = "model" if found["difference"] > 0 else "baseline"',
        'better = "model" if found["difference"] < 0 else "baseline"',
        (f"{MEASURES}::test_which_is_better_is_said_where_interval_and_p_show_it",),
    ),
    Mutant(
        "against the baseline: a claim is made though the interval holds 0",
        "tasks/measures.py",
        'not interval["low"] <= 0 <= interval["high"] and found["p"] <= 1 - LEVEL',
        'found["p"] <= 1',
        (f"{MEASURES}::test_which_is_better_is_said_where_interval_and_p_show_it",),
    ),
    Mutant(
        "against the baseline: it is given the temperature that dev taught the model",
        "tasks/measures.py",
        "gold, outputs, replace(labels, temperature=None))",
        "gold, outputs, labels)",
        (f"{MEASURES}::test_the_strongest_baselines_answers_are_kept_and_compared_as_compare_does",),
    ),
    Mutant(
        "against the baseline: questions of one context are drawn one by one",
        "tasks/measures.py",
        "[read_predictions(path, task.cluster)",
        "[read_predictions(path)",
        (f"{MEASURES}::test_the_strongest_baselines_answers_are_kept_and_compared_as_compare_does",),
    ),
    Mutant(
        "against the baseline: the model does not bind its answers",
        "pages/results.py",
        "*by_seed, *of_baseline, MISTAKES",
        "*by_seed, MISTAKES",
        ("tests/verbs/test_finetune.py::test_the_baselines_answers_are_of_the_run_and_damage_to_them_is_found",),
    ),
    # --- disk
    Mutant(
        "a file is named before it is flushed",
        "disk.py",
        "            _flush(temporary)\n            temporary.replace(path)\n",
        "            temporary.replace(path)\n",
        ("tests/test_disk.py::test_all_is_flushed_before_it_has_its_name_and_its_name_after",),
    ),
    Mutant(
        "the files of a folder are not flushed",
        "disk.py",
        "                _flush(file)\n",
        "",
        ("tests/test_disk.py::test_all_is_flushed_before_it_has_its_name_and_its_name_after",),
    ),
    Mutant(
        "hashes are not compared",
        "disk.py",
        ' or sha256_file(path) != entry["sha256"]',
        "",
        ("tests/test_disk.py::test_every_changed_file_is_found",),
    ),
    Mutant(
        "a manifest's own hash is not compared",
        "disk.py",
        "if hashlib.sha256(before + behind).hexdigest() != seal:",
        "if False:",
        ("tests/test_disk.py::test_any_byte_of_a_sealed_file_that_is_another_or_gone_is_noticed",),
    ),
    Mutant(
        "two processes share a lock",
        "disk.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/test_disk.py::test_a_locked_folder_is_refused_and_an_empty_one_taken_away",),
    ),
    # --- text in
    Mutant(
        "text may become a special token",
        "tokens/tokenizer.py",
        "        backend.encode_special_tokens = True  # not stored",
        "        backend.encode_special_tokens = False  # not stored",
        ("tests/security/test_tokenizers.py::test_the_flag_that_keeps_special_tokens_text_is_set_by_every_way_and_by_both_calls",),
    ),
    Mutant(
        "copies of a document may lie on both sides of the held-out split",
        "corpus/identity.py",
        'unicodedata.normalize("NFKC", text[start:end]).casefold()',
        "text[start:end]",
        ("tests/corpus/test_identity.py::test_case_width_composition_and_white_space_make_no_difference",),
    ),
    Mutant(
        "search: a finished trial is run again",
        "tasks/search.py",
        "list(enumerate(settings, 1))[len(lines) :]",
        "list(enumerate(settings, 1))",
        ("tests/tasks/test_search.py::test_every_trial_is_run_once_and_only_the_weights_of_the_best_are_kept",),
    ),
    Mutant(
        "search: a trial is handed the test file",
        "tasks/search.py",
        'if split != "test"}',
        'if split != ""}',
        ("tests/tasks/test_search.py::test_the_test_file_has_no_part_in_the_search",),
    ),
    Mutant(
        "cross-validation: a fold's model sees its fold",
        "tasks/folds.py",
        "np.flatnonzero(folds.numbers != fold)",
        "np.arange(len(folds.rows))",
        ("tests/tasks/test_folds.py::test_a_folds_model_sees_neither_its_fold_nor_a_text_of_it",),
    ),
    Mutant(
        "cross-validation: outputs stay in the order of the folds",
        "tasks/contract.py",
        "[np.argsort(places)]",
        "",
        ("tests/tasks/test_folds.py::test_outputs_of_all_folds_come_back_in_the_order_of_the_file",),
    ),
    Mutant(
        "shots: dev's examples are learnt from",
        "tasks/shots.py",
        "for text, row in pool.items() if text not in taken}",
        "for text, row in pool.items()}",
        ("tests/tasks/test_shots.py::test_every_seed_learns_from_other_examples_and_all_choose_by_the_same",),
    ),
    Mutant(
        "pretrain: processes are launched that cannot share a step",
        "cli.py",
        "if micro_batches % asked:",
        "if 0 < micro_batches < asked:",
        ("tests/test_cli.py::test_processes_that_cannot_share_a_step_or_would_find_no_corpus_are_not_started",),
    ),
    Mutant(
        "a run that is asked to be shorter: other settings, whatever they are",
        "training/runlog.py",
        'before.get("steps") != now.get("steps")',
        'before.get("steps") == now.get("steps")',
        ("tests/training/test_runlog.py::test_other_settings_are_refused_by_name_and_the_free_ones_may_change",),
    ),
    Mutant(
        "texts of a caller's: those after the first are not looked at",
        "corpus/given.py",
        "set(map(type, found))",
        "set(map(type, found[:1]))",
        ("tests/corpus/test_given.py::test_what_is_no_text_is_refused_by_its_place",),
    ),
    Mutant(
        "texts of a caller's: a dict is its keys",
        "corpus/given.py",
        "return not isinstance(values, Mapping) and getattr",
        "return getattr",
        ("tests/corpus/test_given.py::test_what_is_no_list_of_texts_is_refused",),
    ),
    Mutant(
        "texts of a caller's: words are not looked at",
        "corpus/given.py",
        'for word in text if not isinstance(word, str)), "")',
        'for word in text if word is None), "")',
        ("tests/corpus/test_given.py::test_a_tagger_is_given_words_and_each_is_looked_at",),
    ),
    Mutant(
        "runs of contrast side by side: ends of an interval that is none",
        "pages/contrast_report.py",
        'if found["low"] is None:\n        return',
        'if "low" not in found:\n        return',
        ("tests/pages/test_contrast_report.py::test_several_runs_stand_in_one_table_and_in_the_same_charts_whose_numbers_are_theirs",),
    ),
    Mutant(
        "corpus: of many sources the smallest are shown",
        "pages/doctor.py",
        'origins = sorted(origins, key=lambda origin: -origin["bytes"])',
        'origins = sorted(origins, key=lambda origin: origin["bytes"])',
        ("tests/pages/test_doctor.py::test_of_many_sources_the_largest_are_shown_and_the_others_counted",),
    ),
    Mutant(
        "shots: a label draws though the texts of a rarer one have it already",
        "tasks/shots.py",
        "[: max(0, shots - already)]",
        "[:shots]",
        ("tests/tasks/test_shots.py::test_of_sets_the_rarest_label_draws_first_and_others_what_is_lacking",),
    ),
    Mutant(
        "shots: the commonest label draws first",
        "tasks/shots.py",
        "for pool in sorted(pools, key=len):",
        "for pool in sorted(pools, key=len, reverse=True):",
        ("tests/tasks/test_shots.py::test_of_sets_the_rarest_label_draws_first_and_others_what_is_lacking",),
    ),
    Mutant(
        "shots: texts without a label are nothing to learn from",
        "tasks/shots.py",
        "len(pools[-1]) < needed:",
        "len(pools[-1]) < len(train):",
        ("tests/tasks/test_shots.py::test_of_sets_the_rarest_label_draws_first_and_others_what_is_lacking",),
    ),
    Mutant(
        "label errors: a weak model suspects what it gets wrong",
        "evaluation/label_errors.py",
        "return np.where(undecided(labels, probabilities), 0, most)",
        "return most",
        (
            "tests/evaluation/test_label_errors.py::test_a_weak_model_suspects_no_label_and_a_middling_one_no_more_than_its_surest_answers_allow",
        ),
    ),
    Mutant(
        "label errors: an answer to all is not compared with drawing by lot",
        "evaluation/label_errors.py",
        "np.minimum(TOO_MANY, by_lot / 2)",
        "TOO_MANY",
        (
            "tests/evaluation/test_label_errors.py::test_a_weak_model_suspects_no_label_and_a_middling_one_no_more_than_its_surest_answers_allow",
        ),
    ),
    Mutant(
        "label errors: the share is that of the least sure answers",
        "evaluation/label_errors.py",
        "np.lexsort((-probabilities.max(1), answers))",
        "np.lexsort((probabilities.max(1), answers))",
        ("tests/evaluation/test_label_errors.py::test_it_is_the_surest_answers_that_say_how_many_can_be_wrong",),
    ),
    Mutant(
        "label errors: as many are suspected as reach a threshold",
        "evaluation/label_errors.py",
        "[: most[answer]]",
        "",
        (
            "tests/evaluation/test_label_errors.py::test_a_weak_model_suspects_no_label_and_a_middling_one_no_more_than_its_surest_answers_allow",
        ),
    ),
    Mutant(
        "mistakes: errors of numbers that are too small come last",
        "evaluation/mistakes.py",
        "-np.abs(errors)",
        "-errors",
        ("tests/evaluation/test_mistakes.py::test_numbers_are_in_the_order_of_their_errors_whichever_way_they_go",),
    ),
    # --- security
    Mutant(
        "a manifest may name files outside its folder",
        "disk.py",
        "        path = inside(root, name)\n",
        "        path = root / name\n",
        ("tests/security/test_paths.py::test_no_reader_of_manifests_follows_such_a_name",),
    ),
    Mutant(
        "a lock is taken through a link",
        "disk.py",
        "flags | os.O_NOFOLLOW",
        "flags",
        ("tests/security/test_paths.py::test_a_lock_that_is_a_link_does_not_empty_what_it_leads_to",),
    ),
    Mutant(
        "a header's sizes are believed",
        "model/weights.py",
        "or end - begin != math.prod(shape) * _BYTES[dtype]",
        "",
        ("tests/security/test_weights.py::test_a_header_that_is_not_true_is_refused_by_the_tensors_name",),
    ),
    Mutant(
        "any regular expression is followed",
        "tokens/rules.py",
        "if expression is not None and expression not in KNOWN_PATTERNS:",
        "if False:",
        ("tests/security/test_tokenizers.py::test_rules_that_cost_more_than_the_text_are_refused_in_one_line",),
    ),
    Mutant(
        "bombs are unpacked",
        "corpus/files.py",
        "if unpacked > FREE_BYTES and unpacked > MOST_TIMES * packed:",
        "if False:",
        ("tests/security/test_input.py::test_an_archive_that_unpacks_to_hundreds_of_times_its_size_is_stopped",),
    ),
    Mutant(
        "escape sequences reach the terminal",
        "pages/screen.py",
        "_CONTROL = dict.fromkeys((*range(32), ",
        "_CONTROL = dict.fromkeys((*range(27), *range(28, 32), ",
        ("tests/pages/test_screen.py::test_no_character_that_steers_a_terminal_passes",),
    ),
    Mutant(
        "a page shows text as mark-up",
        "pages/html.py",
        'return escape(inert(str(text)).encode("utf-8", "replace").decode("utf-8"))',
        'return Markup(inert(str(text)).encode("utf-8", "replace").decode("utf-8"))',
        ("tests/pages/test_doctor.py::test_hostile_text_makes_no_element_no_attribute_and_no_control_character",),
    ),
    # --- thresholds
    Mutant(
        "thresholds: of two classes F1 of the second alone chooses",
        "evaluation/probabilities.py",
        "best_threshold(is_gold[:, label], probabilities[:, label], exclusive=exclusive)",
        "best_threshold(is_gold[:, label], probabilities[:, label], exclusive=False)",
        ("tests/evaluation/test_probabilities.py::test_of_two_classes_the_second_has_a_threshold_and_the_first_takes_the_rest",),
    ),
    Mutant(
        "thresholds: the other class is counted as if all of it were given",
        "evaluation/curves.py",
        "2 * (n - gold - (given - right))",
        "2 * (n - gold - given + 0 * right)",
        ("tests/evaluation/test_curves.py::test_of_two_exclusive_classes_neither_is_favoured",),
    ),
    Mutant(
        "thresholds: none above all scores",
        "evaluation/curves.py",
        "np.nextafter(distinct[-1], np.inf)",
        "distinct[-1]",
        ("tests/evaluation/test_curves.py::test_of_two_exclusive_classes_neither_is_favoured",),
    ),
    Mutant(
        "thresholds: rounded to the digits of the probabilities",
        "evaluation/probabilities.py",
        'np.float64(thresholds[names[1]]["value"])',
        'thresholds[names[1]]["value"]',
        ("tests/evaluation/test_probabilities.py::test_a_threshold_above_all_probabilities_gives_none_however_few_digits_they_have",),
    ),
    # --- several processes
    Mutant(
        "several processes: those without their launcher go on by themselves",
        "training/processes.py",
        'if "TORCHELASTIC_RUN_ID" in os.environ',
        'if "NEVER" in os.environ',
        (f"{RANKS}::test_two_processes_that_were_asked_to_end_and_killed_end_as_if_nothing_had_been",),
    ),
    Mutant(
        "several processes: the death of another is no line of its own",
        "cli.py",
        "return _has_joined_others() and isinstance(error, RuntimeError)",
        "return False and isinstance(error, RuntimeError)",
        (f"{RANKS}::test_two_processes_that_were_asked_to_end_and_killed_end_as_if_nothing_had_been",),
    ),
    Mutant(
        "several processes: each takes the first one's micro-batches",
        "verbs/pretrain.py",
        "mine = range(accelerator.process_index, config",
        "mine = range(0, config",
        (f"{RANKS}::test_the_batches_are_the_same_for_another_number_of_processes_at_every_start",),
    ),
    Mutant(
        "several processes: patience that nobody hands on",
        "training/processes.py",
        "InitProcessGroupKwargs(timeout=patience)",
        "InitProcessGroupKwargs()",
        ("tests/training/test_processes.py::test_two_processes_train_as_one",),
    ),
    Mutant(
        "several processes: contrast has no more patience than the others",
        "verbs/contrast.py",
        "patience=timedelta(days=7)",
        "patience=timedelta(0)",
        ("tests/verbs/test_contrast.py::test_the_others_wait_for_days_while_the_first_measures",),
    ),
    # --- several tasks
    Mutant(
        "several tasks: the tracker hears nothing of dev",
        "tasks/together.py",
        'tracker.log(numbers_of({f"seed-{seed}": history[-1]}), step=done)',
        'numbers_of({f"seed-{seed}": history[-1]})',
        ("tests/tasks/test_together.py::test_a_tracker_is_told_of_the_scores_of_every_task_and_of_their_mean",),
    ),
    # --- answers for texts without labels
    Mutant(
        "answers: probabilities are raw where dev taught a temperature",
        "tasks/contract.py",
        "return [(dict(zip(labels.names, row, strict=True)), its) for row, its in zip(calibrated.tolist(), of_model, strict=True)]",
        "return [(its, its) for row, its in zip(calibrated.tolist(), of_model, strict=True)]",
        ("tests/verbs/test_predict.py::test_probabilities_are_calibrated_where_dev_taught_a_temperature_and_in_python_the_same",),
    ),
    Mutant(
        "answers: in Python nothing says that the model saw nothing of the text",
        "inference.py",
        "replace(answer, no_known_tokens=True) if nothing else answer for",
        "answer for",
        ("tests/verbs/test_predict.py::test_every_text_has_its_class_and_probability_in_order",),
    ),
    Mutant(
        "labels: a vector of marks is a list of labels",
        "corpus/labelled.py",
        "if len(found) < len(labels) and all(each.lower() in _MARKS for each in found):",
        "if False:",
        ("tests/corpus/test_labelled.py::test_a_vector_of_marks_is_no_list_of_labels",),
    ),
    Mutant(
        "labels: a list that was printed into a cell is a class",
        "corpus/labels.py",
        "if printed is not None:",
        "if False:",
        ("tests/corpus/test_labelled.py::test_a_list_that_was_printed_into_a_cell_is_no_label",),
    ),
    Mutant(
        "labels: a column of marks counts where it holds 0",
        "corpus/labelled.py",
        "        if mark:\n            found.append(name)",
        "        found.append(name)",
        ("tests/corpus/test_labelled.py::test_columns_of_0_and_1_are_the_labels_that_name_them",),
    ),
    Mutant(
        "labels: some rows without one take the others' away in silence",
        "verbs/prompt.py",
        "if rows.partly_labelled:",
        "if False:",
        ("tests/verbs/test_prompt.py::test_what_cannot_be_asked_is_refused_in_one_line_and_leaves_nothing",),
    ),
    Mutant(
        "a gap: the mark of a word's beginning stays beside it",
        "tokens/tokenizer.py",
        "of_word = np.isin(begins, gaps) & (ends <= begins + 1)",
        "of_word = np.isin(begins, gaps) & (ends == begins + 1)",
        ("tests/tokens/test_tokenizer.py::test_around_a_gap_are_the_pieces_that_a_text_with_a_word_there_has",),
    ),
    Mutant(
        "a gap: texts are encoded each by itself",
        "tokens/tokenizer.py",
        "if not self._marks_beginnings:",
        "if True:",
        ("tests/tokens/test_tokenizer.py::test_around_a_gap_are_the_pieces_that_a_text_with_a_word_there_has",),
    ),
    Mutant(
        "a cluster: a job that ended without its units is queued again in silence",
        "corpus/cluster.py",
        'if missing and (not job or cluster.engine != "slurm") and not any(',
        "if missing and not any(",
        ("tests/corpus/test_cluster.py::test_slurm_reads_in_jobs_and_the_same_call_goes_on",),
    ),
    Mutant(
        "a tracker: tensorboard keeps the steps that a killed run makes again",
        "training/tracking.py",
        'purge_step": after + 1',
        'purge_step": after + 1000',
        ("tests/training/test_tracking.py::test_tensorboard_has_a_step_once_where_a_run_was_killed_and_went_on",),
    ),
    Mutant(
        "vectors: those of another program are in its order of ids as text",
        "evaluation/vectors.py",
        'removesuffix("\\n").split("\\n")',
        'split("\\n")[:-1]',
        ("tests/evaluation/test_vectors.py::test_vectors_that_another_program_wrote_are_read",),
    ),
    Mutant(
        "answers: a file that predict wrote is labels",
        "corpus/labelled.py",
        'if "task" in said and "given" in said and label not in list_at(said, "kept"):',
        "if False:",
        ("tests/verbs/test_predict.py::test_answers_are_no_labels_to_score_the_model_by_until_somebody_copies_them",),
    ),
    Mutant(
        "answers and vectors: of other texts they are replaced in silence",
        "embedding/parts.py",
        "if made_of(said) == made_of(origins):",
        "if made_of(said)[0] == made_of(origins)[0]:",
        (
            "tests/verbs/test_predict.py::test_answers_of_other_texts_are_said_to_be_replaced",
            "tests/verbs/test_embed.py::test_what_another_input_or_model_had_left_is_said_to_be_replaced",
        ),
    ),
    Mutant(
        "answers: the names of the columns stand in every slice",
        "labelling.py",
        'names = 1 if form.ending != ".jsonl" and stream.tell() else 0',
        "names = 0",
        ("tests/verbs/test_predict.py::test_csv_has_a_column_a_class_and_several_labels_in_a_cell",),
    ),
    Mutant(
        "answers: columns that are kept are those of the first slice's rows",
        "labelling.py",
        "{name: values[start:end] for",
        "{name: values[: end - start] for",
        ("tests/verbs/test_predict.py::test_columns_that_are_to_be_kept_stand_beside_the_answers_of_their_rows",),
    ),
    Mutant(
        "columns: those that the model was fine-tuned with are asked for again",
        "tasks/reading.py",
        "if name in there or usual not in there:",
        "if usual not in there:",
        ("tests/verbs/test_evaluate.py::test_columns_of_the_fine_tuning_need_no_second_naming",),
    ),
    Mutant(
        "skip: a folder on the way to a file is not looked at",
        "corpus/units.py",
        "(name, *name.parents[:-2])",
        "(name,)",
        ("tests/corpus/test_units.py::test_a_folder_is_left_out_with_all_below_it_and_a_source_never_by_its_own_name",),
    ),
    Mutant(
        "compare: what a run chose itself stands as default",
        "training/runlog.py",
        "found.get(name) if value is None else value",
        "value",
        ("tests/verbs/test_compare.py::test_a_setting_that_nobody_gave_is_shown_as_what_the_run_chose",),
    ),
    Mutant(
        "report: torch is imported before anybody looks",
        "verbs/report.py",
        "    kinds = kinds_of(folders, config.texts, of_corpus=config.corpus is not None)\n",
        '    kinds = ["vectors", "pretraining"]\n',
        ("tests/verbs/test_first_look.py::test_a_mistake_is_told_in_one_line_before_torch_is_imported",),
    ),
    Mutant(
        "kinds of task: a text and a label under other names are taken for words and tags",
        "tasks/reading.py",
        "        if getattr(columns, role) is None:\n            return True\n",
        "        return True\n",
        ("tests/tasks/test_choosing.py::test_columns_by_other_names_are_of_texts_unless_they_hold_lists",),
    ),
    Mutant(
        "answers: a text of unknown tokens alone counts as seen",
        "tasks/measures.py",
        "[ids != tokenizer.unk_id]",
        "[ids >= 0]",
        ("tests/verbs/test_predict.py::test_rows_say_of_which_texts_the_model_saw_nothing",),
    ),
    Mutant(
        "tables: the texts of vectors are read by their name, not as they were embedded",
        "embedding/index.py",
        "text=column, label=label, dialect=dialect",
        "text=column, label=label",
        ("tests/verbs/test_dialect.py::test_verbs_of_vectors",),
    ),
    Mutant(
        "tables: what a model was trained on is read by its name",
        "tasks/measures.py",
        "Columns(**named, dialect=dialect, label",
        "Columns(**named, label",
        ("tests/verbs/test_dialect.py::test_verbs_that_train",),
    ),
    Mutant(
        "tables: a header with quotation marks hides what separates it",
        "corpus/tables.py",
        "if header is None and between != delimiter",
        "if False",
        ("tests/corpus/test_tables.py::test_a_table_that_is_separated_otherwise_is_told_so_and_not_to_name_its_one_column",),
    ),
    Mutant(
        "tables: UTF-8 that says so is read as what it is not",
        "corpus/files.py",
        "line.removeprefix(UTF8_BOM), AS_NAMED.encoding",
        "line.removeprefix(UTF8_BOM), dialect.encoding",
        ("tests/corpus/test_dialect.py::test_a_file_that_says_itself_what_it_is_is_believed",),
    ),
    Mutant(
        "text: a short file of UTF-8 is read as what it was said to be",
        "corpus/files.py",
        "of_utf8 >= LIKELY_UTF8",
        "of_utf8 >= SURELY_UTF8",
        ("tests/corpus/test_dialect.py::test_a_short_file_that_is_utf8_is_not_read_as_windows_either",),
    ),
    Mutant(
        "verify: damage is to be made anew by settings that are not the run's",
        "training/runlog.py",
        "if verb is None or sha256_file(out / CONFIG) != inputs.get(CONFIG):",
        "if verb is None:",
        ("tests/verbs/test_verify.py::test_what_a_run_made_is_said_to_be_made_anew_by_its_own_command",),
    ),
    Mutant(
        "page: Matthews' correlation of one label is left out",
        "pages/finetuning_report.py",
        '("mcc", "mae", "r2", *OF_SETS)',
        "OF_SETS",
        ("tests/pages/test_report.py::test_nothing_that_a_reader_asks_of_a_fine_tuning_is_left_out",),
    ),
    Mutant(
        "answers: what was done is done again",
        "labelling.py",
        "if not part.exists():",
        "if True:",
        ("tests/verbs/test_predict.py::test_the_same_command_goes_on_where_it_was_cut_off_and_the_file_is_the_same",),
    ),
    Mutant(
        "answers: other texts go on with the parts of the first",
        "labelling.py",
        '"data": data, "form"',
        '"form"',
        ("tests/verbs/test_predict.py::test_parts_are_of_one_job_alone_and_damage_is_seen",),
    ),
    Mutant(
        "answers: a file of the user's is written over",
        "embedding/parts.py",
        "if output.exists() and not ours:",
        "if False:",
        ("tests/verbs/test_predict.py::test_a_file_that_nobody_asked_to_replace_stays",),
    ),
    Mutant(
        "answers: an id that was asked for may be absent",
        "corpus/tables.py",
        'return {} if id == "id" else {id: "id"}',
        "return {}",
        ("tests/verbs/test_predict.py::test_what_cannot_be_answered_is_refused_in_one_line_and_leaves_nothing",),
    ),
    # --- the column of the labels
    Mutant(
        "column of the labels: of two that may be it one is guessed",
        "corpus/labelled.py",
        "if scored and len(there) == 2:",
        "if scored and len(there) == 3:",
        ("tests/corpus/test_labelled.py::test_the_column_of_numbers_is_score_or_label_and_where_both_are_nobody_guesses",),
    ),
    Mutant(
        "column of the labels: a score before a label of classes",
        "corpus/labelled.py",
        '("score", "label") if scored else ("label", "score")',
        '("score", "label")',
        ("tests/corpus/test_labelled.py::test_the_column_of_numbers_is_score_or_label_and_where_both_are_nobody_guesses",),
    ),
    Mutant(
        "column of the labels: a regression does not say that it wants numbers",
        "tasks/regression.py",
        "read=partial(read_texts, scored=True)",
        "read=partial(read_texts, scored=False)",
        ("tests/tasks/test_choosing.py::test_pairs_with_a_score_are_a_regression_and_read_as_one",),
    ),
    # --- the map of vectors
    Mutant(
        "the map: a text is its own neighbour",
        "embedding/mapping.py",
        "    others = ~_itself(found)\n",
        "    others = np.ones(found.shape, dtype=bool)\n    others[:, -1] = False\n",
        ("tests/embedding/test_mapping.py::test_the_nearest_are_by_angle_best_first_and_never_the_text_itself",),
    ),
    Mutant(
        "the map: labels of the first rows, not of those drawn",
        "embedding/mapping.py",
        "labels = [known[row][1] for row in rows.tolist()] if known else []",
        "labels = [known[row][1] for row in sorted(known)[::-1]] if known else []",
        ("tests/embedding/test_mapping.py::test_a_sample_is_of_the_texts_labels_and_vectors_of_the_same_rows",),
    ),
    Mutant(
        "the map: what is escaped is not counted",
        "pages/vectors_report.py",
        'if len(json_script(written, "vectors")) <= LARGEST:',
        "if len(json.dumps(written)) <= LARGEST:",
        ("tests/pages/test_vectors_report.py::test_the_longest_texts_labels_and_ids_are_cut_to_a_page_below_5_mb",),
    ),
    # --- charts on a phone
    Mutant(
        "charts: the left margin knows no long numbers",
        "pages/charts.py",
        "left = max([LEFT, *(math.ceil(width(_tick(tick))) + 8 for tick in ticks(*y_ends))])",
        "left = LEFT",
        ("tests/pages/test_charts.py::test_no_number_and_no_name_goes_beyond_the_edge_of_its_chart_on_a_phone",),
    ),
    Mutant(
        "charts: a number at the right end stands at its tick",
        "pages/charts.py",
        "middle = min(x, WIDTH - width(_tick(tick)) / 2)",
        "middle = x",
        ("tests/pages/test_charts.py::test_no_number_and_no_name_goes_beyond_the_edge_of_its_chart_on_a_phone",),
    ),
    Mutant(
        "charts: a name beside intervals is as long as it likes",
        "pages/charts.py",
        "while width(name) > LONGEST_NAME - EM:",
        "while width(name) > 2 * LONGEST_NAME:",
        ("tests/pages/test_charts.py::test_no_number_and_no_name_goes_beyond_the_edge_of_its_chart_on_a_phone",),
    ),
    # --- trackers
    Mutant(
        "trackers: wandb is told the step as its own",
        "training/tracking.py",
        'self._tracker.log(values | {"step": step})',
        "self._tracker.log(values, step=step)",
        ("tests/training/test_tracking.py::test_wandb_writes_into_the_run_and_loses_no_step_that_comes_after_a_higher_one",),
    ),
    Mutant(
        "trackers: mlflow is told the names as they are",
        "training/tracking.py",
        'NOT_IN_MLFLOW.sub("_", name)',
        "name",
        ("tests/training/test_tracking.py::test_names_that_mlflow_refuses_are_written_in_its_letters",),
    ),
    Mutant(
        "trackers: a run that goes on tells mlflow its settings again",
        "training/tracking.py",
        'if before is None or kind in ("wandb", "trackio"):',
        "if True:",
        ("tests/training/test_tracking.py::test_a_run_that_goes_on_goes_on_in_its_tracker_and_is_told_its_settings",),
    ),
    Mutant(
        "trackers: a run that goes on has no settings in trackio",
        "training/tracking.py",
        'if before is None or kind in ("wandb", "trackio"):',
        "if before is None:",
        ("tests/training/test_tracking.py::test_a_run_that_goes_on_goes_on_in_its_tracker_and_is_told_its_settings",),
    ),
    Mutant(
        "trackers: trackio takes the latest run of the folder's name",
        "training/tracking.py",
        'before or f"{name}-{token_hex(3)}"',
        "name",
        ("tests/training/test_tracking.py::test_a_run_that_goes_on_goes_on_in_its_tracker_and_is_told_its_settings",),
    ),
    Mutant(
        "trackers: another tracker's name for the run is forgotten",
        "training/tracking.py",
        "memory | {kind: known}",
        "{kind: known}",
        ("tests/training/test_tracking.py::test_a_run_that_goes_on_goes_on_in_its_tracker_and_is_told_its_settings",),
    ),
    Mutant(
        "trackers: one that fails is asked again and again",
        "training/tracking.py",
        "self._failed = True",
        "self._failed = False",
        ("tests/training/test_tracking.py::test_a_tracker_that_fails_in_the_middle_is_said_once_and_ends_nothing",),
    ),
    # --- runs of contrast while they go on, and several
    Mutant(
        "contrast: the page is written at the end only",
        "embedding/learning.py",
        "            after_measuring()\n",
        "",
        (
            "tests/verbs/test_contrast.py::"
            "test_a_run_that_was_cut_off_ends_with_the_same_bits_its_page_goes_on_with_it_and_a_tracker_changes_nothing",
        ),
    ),
    Mutant(
        "several runs of contrast: the score of test is that of dev",
        "pages/contrast_report.py",
        'score = found.get("score", run.score)',
        'split, score = "dev", run.score',
        ("tests/pages/test_contrast_report.py::test_several_runs_stand_in_one_table_and_in_the_same_charts_whose_numbers_are_theirs",),
    ),
    Mutant(
        "several runs of contrast: curves of the first only",
        "pages/contrast_report.py",
        'section("Their course", _curves(runs))',
        'section("Their course", _curves(runs[:1]))',
        ("tests/pages/test_contrast_report.py::test_several_runs_stand_in_one_table_and_in_the_same_charts_whose_numbers_are_theirs",),
    ),
    # --- the page of contrast
    Mutant(
        "the page of contrast: measurements on dev are no records",
        "training/runlog.py",
        """('"losses"', '"heldout"', '"dev"')""",
        """('"losses"', '"heldout"')""",
        ("tests/pages/test_contrast_report.py::test_every_number_is_that_of_the_folder_to_the_digit",),
    ),
    Mutant(
        "the page of contrast: the last measurement is the chosen one",
        "pages/contrast_report.py",
        "return max(known, key=lambda each: each[self.score]) if known else None",
        "return known[-1] if known else None",
        ("tests/pages/test_contrast_report.py::test_a_run_that_goes_on_is_shown_as_far_as_it_is",),
    ),
    Mutant(
        "the page of contrast: any interval is above 0",
        "pages/contrast_report.py",
        'better = found["low"] is not None and found["low"] > 0',
        'better = found["low"] is not None',
        ("tests/pages/test_contrast_report.py::test_a_page_says_in_words_what_came_of_it_and_marks_what_was_chosen",),
    ),
    # --- vectors judged
    Mutant(
        "vectors judged: recall is of k, not of the relevant",
        "evaluation/retrieval.py",
        "float(hits[:cut].sum()) / len(wanted)",
        "float(hits[:cut].sum()) / min(cut, len(wanted))",
        ("tests/evaluation/test_retrieval.py::test_scores_can_be_checked_by_hand",),
    ),
    Mutant(
        "vectors judged: the best nDCG is that of one text",
        "evaluation/retrieval.py",
        "discounts[: len(wanted)].sum()",
        "discounts[:1].sum()",
        ("tests/evaluation/test_retrieval.py::test_ndcg_is_scikit_learns",),
    ),
    Mutant(
        "vectors judged: of a block's equal cosines any is taken",
        "evaluation/vectors.py",
        "np.cumsum(equal, axis=1) <= count",
        "np.cumsum(equal[:, ::-1], axis=1)[:, ::-1] <= count",
        ("tests/evaluation/test_vectors.py::test_blocks_of_any_size_have_the_same_nearest_and_of_equals_the_first",),
    ),
    Mutant(
        "vectors judged: a random pair may be a text with itself",
        "evaluation/geometry.py",
        "values.sum(1) - values.diagonal()",
        "values.sum(1)",
        ("tests/evaluation/test_geometry.py::test_the_numbers_are_the_definitions_pair_by_pair",),
    ),
    Mutant(
        "vectors judged: pairs that share a text are independent",
        "evaluation/geometry.py",
        "math.sqrt((n - 1) / n *",
        "math.sqrt((n - 1) / n / 4 *",
        ("tests/evaluation/test_geometry.py::test_intervals_hold_the_true_value_as_often_as_they_say_coverage",),
    ),
    Mutant(
        "sets of labels: a label's correlation forgets the examples without it",
        "evaluation/resampling.py",
        "return _ratio(right * n - gold * chosen, np.sqrt(gold * (n - gold) * chosen * (n - chosen)))",
        "return _ratio(right, np.sqrt(gold * chosen))",
        ("tests/evaluation/test_metrics.py::test_sets_of_labels_have_scikit_learns_numbers",),
    ),
    Mutant(
        "sets of labels: the loss counts a label that is left out and none that is given too much",
        "evaluation/resampling.py",
        "return _ratio((gold + chosen - 2 * right).sum(0), len(gold) * counts[1, -1])",
        "return _ratio((gold - right).sum(0), len(gold) * counts[1, -1])",
        ("tests/evaluation/test_resampling.py::test_scores_of_sets_have_the_distribution_that_resampling_rows_gives",),
    ),
    Mutant(
        "sets of labels: a loss is better where it is higher",
        "evaluation/comparable.py",
        "return metric in LOWER_IS_BETTER or metric in SET_LOSSES",
        "return metric in LOWER_IS_BETTER",
        ("tests/tasks/test_multi_label.py::test_systems_are_compared_by_their_sets",),
    ),
    Mutant(
        "vectors judged: equal texts are left out all at once",
        "evaluation/clusters.py",
        "fewer = of_cell - (taken if once else 1)",
        "fewer = of_cell - taken",
        ("tests/evaluation/test_clusters.py::test_the_interval_is_the_jackknifes_by_leaving_out",),
    ),
    Mutant(
        "vectors judged: however they were made",
        "embedding/judging.py",
        "            made.append((path, facts))\n",
        "            made.insert(0, (path, facts))\n",
        ("tests/embedding/test_judging.py::test_vectors_of_files_are_found_by_id_and_what_is_not_theirs_is_refused",),
    ),
    Mutant(
        "vectors judged: a coin swaps cosines of different units",
        "evaluation/comparable.py",
        "        predicted = _in_one_unit(predicted)\n",
        "        predicted = predicted + 0\n",
        ("tests/evaluation/test_comparing_vectors.py::test_a_test_of_cosines_does_not_depend_on_their_unit",),
    ),
    Mutant(
        "vectors judged: another pool is the same question",
        "corpus/relevance.py",
        'f"{each} {pool}"',
        'f"{each}"',
        ("tests/corpus/test_relevance.py::test_the_same_query_in_another_pool_is_another_question",),
    ),
    Mutant(
        "vectors judged: a block's rows are counted from its own first",
        "evaluation/vectors.py",
        "for each, _ in found]) + first]",
        "for each, _ in found])]",
        ("tests/embedding/test_judging.py::test_the_nearest_of_a_pool_are_those_of_every_cosine_for_any_block",),
    ),
    # --- the same answer everywhere, and what it was made from
    Mutant(
        "explore: probabilities before the temperature that dev taught",
        "exploring/looking.py",
        "return logits if model.known.temperature is None else logits / model.known.temperature",
        "return logits",
        ("tests/exploring/test_looking.py::test_probabilities_are_at_the_temperature_that_dev_taught_and_so_is_what_is_explained",),
    ),
    Mutant(
        "verify: the files of several tasks are not followed",
        "training/chain.py",
        'for path in settings.get("tasks") or ():',
        "for path in ():",
        ("tests/tasks/test_together.py::test_the_chain_of_hashes_is_followed_from_each_tasks_folder_and_from_the_run",),
    ),
    Mutant(
        "compare: clusters are taken from any file that has the ids",
        "verbs/compare.py",
        "if known and Path(data).is_file() and sha256_file(Path(data)) not in known:",
        "if False:",
        ("tests/verbs/test_compare.py::test_the_labelled_file_with_the_clusters_is_the_one_that_was_evaluated",),
    ),
    Mutant(
        "several tasks: a call that was cut off between two models is the last",
        "verbs/multitask.py",
        '            remove_folder(out / name / "model")\n',
        "            pass\n",
        ("tests/reliability/test_results_killed.py::test_several_tasks_killed_between_their_models_end_the_same",),
    ),
    Mutant(
        "a run: what is half written below it stays",
        "training/runlog.py",
        "            sweep(out, deep=True)",
        "            sweep(out)",
        ("tests/reliability/test_results_killed.py::test_nothing_half_written_stays_in_a_run_that_goes_on",),
    ),
    Mutant(
        "a run that was cut off before its page has none",
        "pages/report.py",
        "    if not anew and (run / REPORT).is_file():\n",
        "    if not anew:\n",
        ("tests/reliability/test_results_killed.py::test_a_run_killed_between_its_result_and_its_page_gets_the_page",),
    ),
    # --- what newcomers stumble over
    Mutant(
        "stumbles: a header is not asked for all the columns",
        "corpus/tables.py",
        "    refuse_missing(required, header, place)\n",
        "    refuse_missing(dict([*required.items()][:1]), header, place)\n",
        ("tests/corpus/test_tables.py::test_a_label_or_a_second_text_is_missing_in_the_same_line_as_a_text",),
    ),
    Mutant(
        "stumbles: an option is named that chooses another column",
        "cli.py",
        "asked is None or asked == error.column or",
        "asked != () or",
        ("tests/test_cli.py::test_a_missing_column_is_told_with_the_option_that_names_it",),
    ),
    Mutant(
        "stumbles: standard input is looked for as a file",
        "cli.py",
        'startswith(("hf:", "-"))',
        'startswith("hf:")',
        ("tests/test_cli.py::test_nothing_is_missed_on_the_hub_nor_in_a_run_that_goes_on",),
    ),
    Mutant(
        "stumbles: a run that is finished asks for its files again",
        "cli.py",
        'if (out := settings.get("out")) and Path(out).is_dir():',
        "if settings is None:",
        ("tests/test_cli.py::test_nothing_is_missed_on_the_hub_nor_in_a_run_that_goes_on",),
    ),
    Mutant(
        "stumbles: MFU is capped at all of the machine",
        "training/speed.py",
        "return flops_a_second / rate if flops_a_second <= rate else None",
        "return min(1.0, flops_a_second / rate)",
        ("tests/test_bench.py::test_a_rate_that_other_work_slowed_is_measured_again_and_never_gives_more_than_all",),
    ),
    Mutant(
        "stumbles: a worse rate takes the place of a better one",
        "training/speed.py",
        "rate = max(rate, product_rate(device, precision) * processes)",
        "rate = product_rate(device, precision) * processes",
        ("tests/test_bench.py::test_a_rate_that_other_work_slowed_is_measured_again_and_never_gives_more_than_all",),
    ),
    Mutant(
        "stumbles: what has a default can only be left out",
        "schema.py",
        "if leaf.default is None else",
        "if True else",
        ("tests/test_config.py::test_what_is_wrong_is_refused_with_its_place_and_a_way_out",),
    ),
    # --- short texts, and what Python gives
    Mutant(
        "a line that is a document loses its place",
        "corpus/sources.py",
        'yield Document(f"{file.name}:{number}", file.name, line)',
        'yield Document(f"{file.name}:1", file.name, line)',
        ("tests/corpus/test_sources.py::test_each_line_can_be_a_document",),
    ),
    Mutant(
        "files of a text a line are never told of",
        "pages/prepared.py",
        "    if long:\n",
        "    if long > 9:\n",
        ("tests/verbs/test_prepare.py::test_files_of_one_text_a_line_are_told_of_and_each_line_can_be_a_document",),
    ),
    Mutant(
        "short test texts keep nothing out",
        "corpus/keep_out.py",
        "            counts[first:end] += same\n",
        "            counts[first:end] += 0 * same\n",
        ("tests/corpus/test_keep_out.py::test_short_test_texts_keep_out_what_has_their_words_and_no_other",),
    ),
    Mutant(
        "prepare: another text is found finished",
        "verbs/prepare.py",
        "is_of_these=there == inputs)",
        "is_of_these=True)",
        ("tests/verbs/test_prepare.py::test_the_same_command_finds_the_corpus_finished_and_another_is_refused",),
    ),
    Mutant(
        "prepare: what is kept out does not name a corpus",
        "corpus/reading.py",
        "recipe.keep_out.hashes.tobytes() + recipe.keep_out.whole.tobytes()",
        'b""',
        ("tests/verbs/test_prepare.py::test_the_same_command_finds_the_corpus_finished_and_another_is_refused",),
    ),
    Mutant(
        "a class that is never answered has its labels suspected",
        "evaluation/label_errors.py",
        " & is_given[labels])",
        ")",
        (
            "tests/evaluation/test_label_errors.py::test_a_weak_model_suspects_no_label_and_a_middling_one_no_more_than_its_surest_answers_allow",
        ),
    ),
    Mutant(
        "a word with a sign at it is whole",
        "cloze.py",
        'return len(text) == 1 or text != "" and not any(unicodedata.category(each)[0] in "PSC" for each in text)',
        "return bool(text)",
        ("tests/test_cloze.py::test_whole_words_of_other_vocabularies_have_no_sign_at_them",),
    ),
    Mutant(
        "scored pairs all mean the same",
        "corpus/related.py",
        "for name in (names.label, SCORE) if name in row",
        "for name in (names.label,) if name in row",
        ("tests/corpus/test_related.py",),
    ),
    Mutant(
        "answers: a column that was kept is taken for an answer",
        "corpus/labelled.py",
        ' and label not in list_at(said, "kept"):',
        ":",
        ("tests/verbs/test_predict.py",),
    ),
    Mutant(
        "an exported encoder is followed nowhere",
        "training/chain.py",
        "    if path is not None and files:  # an encoder",
        "    if path is None and files:  # an encoder",
        ("tests/verbs/test_verify.py::test_an_encoder_that_was_exported_is_followed_to_the_model_and_its_run",),
    ),
    Mutant(
        "from Python a text that says none is nothing",
        "schema.py",
        "            elif isinstance(value, str) and str in members(hint):",
        "            elif False:",
        ("tests/test_schema.py::test_a_text_stays_what_it_is",),
    ),
    Mutant(
        "from Python true is a number",
        "schema.py",
        "    elif hint is float and type(value) is int:",
        "    elif hint is float and isinstance(value, int):",
        ("tests/test_schema.py::test_a_value_of_another_type_is_refused_whoever_gives_it",),
    ),
    Mutant(
        "stumbles: what a model before this one has read is forgotten",
        "model/facts.py",
        '[*list_at(facts, "text_read"), *list_at(facts, "corpus", "sources")]',
        'list_at(facts, "corpus", "sources")',
        ("tests/model/test_folder.py::test_the_text_that_weights_have_read_is_told_as_far_as_facts_say_so",),
    ),
    Mutant(
        "stumbles: an export forgets what its weights have read",
        "verbs/export.py",
        '{"text_read": text_read(model.folder), ',
        '{"text_read": [], ',
        ("tests/verbs/test_export.py::test_the_text_that_the_weights_have_read_is_told_on",),
    ),
    Mutant(
        "stumbles: the corpus that vectors were trained on is no text that they have read",
        "verbs/contrast.py",
        "{} if sources is None else",
        "{} if sources else",
        ("tests/verbs/test_contrast.py::test_a_corpus_brings_its_sentences_and_its_held_out_documents",),
    ),
    Mutant(
        "stumbles: a licence goes without saying once another text was read before",
        "pages/card.py",
        'licences=sorted({*corpus["licences"], *(source["licence"] for source in facts["text_read"])}),',
        'licences=corpus["licences"],',
        ("tests/pages/test_card.py::test_text_that_the_weights_have_read_goes_with_them_with_its_licence",),
    ),
    Mutant(
        "first look: the files after train are not looked at",
        "tasks/first_look.py",
        "    for file in files:\n        look_at(",
        "    for file in files[:1]:\n        look_at(",
        ("tests/verbs/test_first_look.py::test_a_mistake_is_told_in_one_line_before_torch_is_imported",),
    ),
    Mutant(
        "first look: processes are started before it",
        "cli.py",
        "        look()\n        return _torchrun",
        "        return _torchrun",
        ("tests/verbs/test_first_look.py::test_a_mistake_is_told_in_one_line_before_torch_is_imported",),
    ),
    Mutant(
        "first look: embed looks at the first file alone",
        "verbs/embed.py",
        "for file in _named(config.input):",
        "for file in _named(config.input)[:1]:",
        ("tests/verbs/test_first_look.py::test_a_mistake_is_told_in_one_line_before_torch_is_imported",),
    ),
    Mutant(
        "first look: a run folder of another verb is found when torch is there",
        "tasks/first_look.py",
        "    agree_with_config(config, Path(config.out), free)\n",
        "",
        ("tests/verbs/test_first_look.py::test_a_mistake_is_told_in_one_line_before_torch_is_imported",),
    ),
    # --- what a stranger stumbled at
    Mutant(
        "a blank line's documents are counted once a file",
        "corpus/sources.py",
        '            tally["text_documents"] += 1\n',
        '            tally["text_documents"] = tally["text_files"]\n',
        ("tests/verbs/test_prepare.py::test_text_files_cut_at_blank_lines_into_more_documents_than_files_are_told_of",),
    ),
    Mutant(
        "prepare: a file that two patterns match is counted twice",
        "corpus/units.py",
        "            taken[matching[0]] += 1\n",
        "            taken.update({pattern: taken[pattern] + 1 for pattern in matching})\n",
        ("tests/corpus/test_units.py::test_every_file_is_left_in_or_counted_by_the_first_pattern_that_takes_it_out",),
    ),
    Mutant(
        "prepare: a folder of which every file is left out is taken for a saved dataset",
        "corpus/provenance.py",
        "any(each.file is None for each in files)",
        "not any(each.file for each in files)",
        ("tests/verbs/test_prepare.py::test_files_are_told_by_their_endings_and_those_left_out_are_counted",),
    ),
    Mutant(
        "a finished run without a model is called unfinished",
        "model/facts.py",
        'if (run / "config.yaml").is_file() and not (run / "metrics.json").is_file():',
        'if (run / "config.yaml").is_file():',
        ("tests/test_inference.py::test_what_is_no_model_folder_is_refused_with_a_hint",),
    ),
    Mutant(
        "corpus: of many files no small one is named",
        "pages/doctor.py",
        'if place < FEWEST_FILES or source["share"] >= LEAST_SHARE]',
        'if source["share"] >= LEAST_SHARE]',
        ("tests/pages/test_doctor.py::test_of_many_files_those_of_a_percent_are_named_and_at_least_three",),
    ),
    # --- what an audit of the tests found that none of them noticed
    Mutant(
        "weak tests: a model that was measured goes on without dropout",
        "training/forward.py",
        "    model.train(training)\n",
        "",
        ("tests/training/test_forward.py::test_there_is_no_dropout_and_training_goes_on_with_it",),
    ),
    Mutant(
        "weak tests: NaN among what a model gives is a result",
        "training/forward.py",
        "    if not np.isfinite(results).all():",
        "    if np.isinf(results).all():",
        ("tests/training/test_forward.py::test_a_number_that_is_none_is_one_line",),
    ),
    Mutant(
        "weak tests: going on from a model has the rates of random weights",
        "training/start.py",
        "        return 2e-5 if width >= 768 else 1e-4",
        "        return 2e-5 if width > 768 else 1e-4",
        ("tests/training/test_start.py::test_rates_are_the_papers_for_base_and_smaller_where_a_model_is_gone_on_with",),
    ),
    Mutant(
        "weak tests: a pair may be one token longer than the model has places",
        "training/start.py",
        "    if longest > positions:",
        "    if longest > positions + 1:",
        ("tests/training/test_start.py::test_a_folder_is_trained_on_as_it_is_for_pairs_as_long_as_its_places",),
    ),
    Mutant(
        "weak tests: of held-out pairs a random B is always the commoner answer",
        "training/heldout.py",
        '"nsp_majority": max(random_share, 1 - random_share)',
        '"nsp_majority": random_share',
        (
            "tests/training/test_heldout.py::test_what_is_held_out_is_the_same_each_time_and_what_knowing_nothing_scores_is_worked_out_by_hand",
        ),
    ),
    Mutant(
        "weak tests: in the survey a random B is always the commoner answer",
        "batches/survey.py",
        '"majority": max(random, pairs - random) / pairs,',
        '"majority": random / pairs,',
        ("tests/batches/test_survey.py::test_the_commoner_answer_may_be_that_b_follows",),
    ),
    Mutant(
        "weak tests: the same places of the anchors are hidden in every step",
        "batches/sentence_groups.py",
        "randomness.key(self.seed, _MASKS, step)",
        "randomness.key(self.seed, _MASKS)",
        (f"{GROUPS}::test_masked_words_are_those_of_the_anchors_and_bounded",),
    ),
    Mutant(
        "weak tests: what a calibrated model may show is the end of a two-sided interval",
        "evaluation/calibration.py",
        "float(np.quantile(found, level))",
        "float(np.quantile(found, (1 + level) / 2))",
        ("tests/evaluation/test_calibration.py::test_by_chance_is_what_a_calibrated_model_shows_and_falls_with_the_root_of_the_answers",),
    ),
    Mutant(
        "weak tests: recall weighted by support has another interval than accuracy",
        "evaluation/intervals.py",
        '"weighted": average("weighted") | {"recall": accuracy},',
        '"weighted": average("weighted"),',
        ("tests/evaluation/test_intervals.py::test_every_headline_number_of_the_metrics_lies_in_its_interval_under_the_same_name",),
    ),
    Mutant(
        "weak tests: of many seeds a p-value may be 0",
        "evaluation/significance.py",
        "(1 + (differences(chosen) >= least).sum()) / (resamples + 1)",
        "(differences(chosen) >= least).sum() / resamples",
        ("tests/evaluation/test_significance.py::test_the_scores_of_seeds_are_tested_as_scipy_tests_them",),
    ),
    Mutant(
        "weak tests: the estimator takes the last layer, whichever are asked for",
        "embedding/estimator.py",
        "layers=how.layers)",
        "layers=())",
        ("tests/embedding/test_estimator.py::test_vectors_are_those_of_the_loaded_model_from_lists_arrays_and_columns",),
    ),
    Mutant(
        "weak tests: of a text with two labels the last row decides where it counts",
        "corpus/labelled.py",
        "label_of[text_hash] = min(label, label_of.get(text_hash, label))",
        "label_of[text_hash] = label",
        ("tests/corpus/test_labelled.py::test_a_text_of_two_labels_counts_under_the_lowest_whichever_row_comes_first",),
    ),
    Mutant(
        "weak tests: hashes and ellipses are too many together",
        "corpus/cleaning.py",
        'max(text.count("#"), text.count("...") + text.count("…"))',
        '(text.count("#") + text.count("...") + text.count("…"))',
        ("tests/corpus/test_cleaning.py::test_a_text_is_dropped_for_its_reason_and_a_near_twin_is_kept",),
    ),
    Mutant(
        "weak tests: words are looked up though an added token holds several",
        "tokens/encoding.py",
        'kinds == BY_WORD and all(token["special"] for token in rules["added_tokens"])',
        "kinds == BY_WORD",
        ("tests/tokens/test_encoding.py::test_an_added_token_is_found_in_the_text_before_any_word",),
    ),
    Mutant(
        "weak tests: words are looked up that are longer than the rules allow",
        "tokens/encoding.py",
        "if len(token) <= longest and id not in special}",
        "if id not in special}",
        ("tests/tokens/test_encoding.py::test_a_word_of_more_letters_than_the_rules_allow_is_unknown_though_the_vocabulary_has_it",),
    ),
    Mutant(
        "weak tests: an answer begins with the mark before it",
        "batches/questions.py",
        "(characters[:, 1] > start)",
        "(characters[:, 1] >= start)",
        ("tests/batches/test_questions.py::test_an_answer_between_marks_without_spaces_has_its_own_tokens_alone",),
    ),
    Mutant(
        "weak tests: a long question leaves its context no room",
        "batches/questions.py",
        "min(max_question, max_length // 2)",
        "min(max_question, max_length - 4)",
        ("tests/batches/test_questions.py::test_a_long_question_is_cut_and_counted_and_a_context_keeps_room",),
    ),
    Mutant(
        "weak tests: a sentence is too long though the longest pair holds it",
        "batches/diagnosis.py",
        'min((pairs["over_long_share"]',
        'max((pairs["over_long_share"]',
        ("tests/batches/test_diagnosis.py::test_a_corpus_at_every_threshold_gives_no_warning",),
    ),
    Mutant(
        "weak tests: a document that comes twice is two that were kept of its source",
        "corpus/choosing.py",
        'Counter({"in": int(mine.sum()), "kept": int(np.count_nonzero(times[mine]))})',
        'Counter({"in": int(mine.sum()), "kept": int(times[mine].sum())})',
        ("tests/corpus/test_choosing.py::test_weights_repeat_whole_times_and_leave_out_by_a_hash_of_the_text",),
    ),
    Mutant(
        "weak tests: one document is held out, and makes no pair",
        "corpus/choosing.py",
        "    if len(out) < 2:",
        "    if len(out) < 1:",
        ("tests/corpus/test_choosing.py::test_held_out_documents_come_once_and_are_those_of_the_hashes",),
    ),
    Mutant(
        "weak tests: pairs of one first text are the same pair",
        "corpus/related.py",
        "zip(*self.columns[:2], strict=True)]",
        "zip(*self.columns[:1], strict=True)]",
        ("tests/corpus/test_related.py::test_two_rows_are_the_same_where_both_texts_are",),
    ),
    Mutant(
        "weak tests: recall@1 counts what is found second",
        "embedding/likeness.py",
        '"recall@1": float((values == 1).mean())',
        '"recall@1": float((values >= 0.5).mean())',
        ("tests/embedding/test_likeness.py::test_scores_and_the_interval_of_a_difference",),
    ),
    Mutant(
        "weak tests: a mark before a word is a piece of it",
        "embedding/contexts.py",
        "(spans[first:end, 1] > each.start)",
        "(spans[first:end, 1] >= each.start)",
        ("tests/embedding/test_contexts.py::test_a_neighbour_without_a_space_between_is_no_piece_of_the_word",),
    ),
    Mutant(
        "weak tests: equal runs of texts are one part",
        "embedding/job.py",
        'f"{job} {run.number} {run.sha256}"',
        'f"{job} {run.sha256}"',
        ("tests/embedding/test_job.py::test_runs_of_equal_ids_and_texts_are_parts_of_their_own",),
    ),
    Mutant(
        "weak tests: parts of another prompt are taken for these",
        "embedding/job.py",
        ', "prompt": embedder.recorded.prompt}',
        "}",
        ("tests/embedding/test_job.py::test_a_job_is_known_by_all_that_its_vectors_depend_on",),
    ),
    Mutant(
        "weak tests: equal texts count twice in how labels lie",
        "embedding/judging.py",
        "different[random_partners(np.asarray(gold)[different], seed)]",
        "random_partners(np.asarray(gold)[different], seed)",
        ("tests/embedding/test_judging.py::test_groups_are_as_many_as_labels_and_another_column_is_refused",),
    ),
    Mutant(
        "nothing stands beside the groups of vectors",
        "embedding/judging.py",
        'metrics["baselines"] = {"TF-IDF": cluster_scores(',
        'metrics["beside"] = {"TF-IDF": cluster_scores(',
        ("tests/verbs/test_evaluate_vectors.py::test_groups_of_a_model_and_of_its_embeddings_are_the_same",),
    ),
    Mutant(
        "a page of vectors says that no leak was looked for, where nothing was learnt",
        "pages/scored.py",
        " or of_vectors_alone(scored.metrics):  # nothing",
        ":  # nothing",
        ("tests/pages/test_report.py::test_what_vectors_are_worth_is_shown_beside_tf_idf_with_how_they_lie",),
    ),
    Mutant(
        "weak tests: of several labels the unlikeliest comes first",
        "tasks/multi_label.py",
        "key=lambda place: -row[place])",
        "key=lambda place: row[place])",
        ("tests/tasks/test_multi_label.py::test_the_likeliest_label_comes_first_and_a_text_may_have_none",),
    ),
    Mutant(
        "weak tests: dev has its share of the commonest labels, not of the rarest",
        "tasks/multi_label.py",
        "np.where(gold, gold.sum(0), len(gold) + 1)",
        "np.where(gold, -gold.sum(0), len(gold) + 1)",
        ("tests/tasks/test_multi_label.py::test_a_text_counts_under_its_rarest_label_when_dev_is_cut",),
    ),
    Mutant(
        "weak tests: a suspected tag stands with another word once one was not seen",
        "tasks/tokens.py",
        '"position": int(word[seen[suspect.row]]),',
        '"position": int(word[suspect.row]),',
        ("tests/tasks/test_tokens.py::test_a_suspected_tag_stands_with_its_own_word_where_others_were_not_seen",),
    ),
    Mutant(
        "weak tests: of two equal epochs the one with fewer answers found is better",
        "tasks/answers.py",
        "    return 1.0 - float(answer_metrics",
        "    return float(answer_metrics",
        ("tests/tasks/test_answers.py::test_the_loss_is_the_share_of_best_spans_that_are_no_answer_whatever_the_threshold",),
    ),
)


def place(mutant: Mutant, root: Path = ROOT) -> Path:
    """The file of a mutant. `old` must stand in it exactly once."""
    path = root / "bertlab" / mutant.file
    count = path.read_text().count(mutant.old)
    assert count == 1, f"{mutant.name}: {mutant.file} has {count} places like {mutant.old!r}: say the bug anew"
    return path


def failing(tests: tuple[str, ...], root: Path) -> str | None:
    """The first of the tests that fails in the repository at `root`, or None."""
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"these tests cannot be run: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else "?" if done.returncode else None


def main(words: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        root.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, root / name)
        broken = failing(tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests)), root)
        if broken:
            print(f"{broken} fails without any bug sown: nothing would be shown")
            return 2
        killed = 0
        for mutant in chosen:
            began, path = time.monotonic(), place(mutant, root)
            before = path.read_text()
            path.write_text(before.replace(mutant.old, mutant.new))
            test = failing(mutant.tests, root)
            path.write_text(before)
            killed += test is not None
            print(
                f"{'killed' if test else 'LIVES ':<8}{time.monotonic() - began:4.0f} s  {mutant.name}: {test or ', '.join(mutant.tests)}",
                flush=True,
            )
    print(f"{killed} of {len(chosen)} killed")
    return int(killed < len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
