"""A GRPO script of TRL's that trains with Kintsugi, by the three lines that are numbered. On a CPU, in about a minute:

make .venv-trl/.ready
.venv-trl/bin/python examples/trl_grpo.py
"""

from datasets import Dataset
from trl import GRPOConfig

from kintsugi.bridges.trl import KintsugiGRPOTrainer  # 1. instead of: from trl import GRPOTrainer
from kintsugi.models.loading import NANO_DIR
from kintsugi.tasks.dag import DagTask


def correct(completions, answer, **kwargs):
    """1 where the text ends in the right answer: a reward function as TRL asks for it."""
    texts = [completion[0]["content"] for completion in completions]
    return [float(text.rpartition("####")[2].strip() == a) for text, a in zip(texts, answer, strict=True)]


def conversations(problems):
    rows = [{"prompt": [{"role": "user", "content": p.prompt}], "answer": p.answer} for p in problems]
    return Dataset.from_list(rows)


def main(steps=20):
    """Held-out rewards before and after training."""
    args = GRPOConfig(
        output_dir="runs/trl",
        max_steps=steps,
        learning_rate=2e-4,
        warmup_steps=5,
        lr_scheduler_type="constant_with_warmup",
        per_device_train_batch_size=96,  # 12 problems x 8 rollouts
        num_generations=8,
        max_completion_length=80,
        per_device_eval_batch_size=100,
        num_generations_eval=1,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        bf16=False,
        gradient_checkpointing=False,
    )
    task = DagTask()
    trainer = KintsugiGRPOTrainer(  # 2. instead of: GRPOTrainer(
        model=str(NANO_DIR),
        reward_funcs=correct,
        args=args,
        train_dataset=conversations(task.train()),
        eval_dataset=conversations(task.evaluation()[:100]),
        algorithm="kintsugi",  # 3. one argument more
        prompts="terse-v1",  # for this model alone, which knows repair prompts in no other wording
    )
    before = trainer.evaluate()["eval_reward"]
    trainer.train()
    after = trainer.evaluate()["eval_reward"]
    print(f"held-out accuracy {before:.2f} -> {after:.2f}")
    return before, after


if __name__ == "__main__":
    main()
