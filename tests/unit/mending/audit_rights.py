"""Right corrections in real wording: (name, failure, repair), with the question and the anchor where they matter.

No audit rule should reject any of them. Each is written for this table.
"""

from __future__ import annotations

RIGHT: list[tuple[str, ...]] = [
    # ---- word problems, the answer under ####
    (
        "eggs: a difference",
        "Mara has 24 eggs and bakes with 9, so 24 - 9 = 13 eggs are left.\nShe sells them for 13 * 3 = $39.\n#### 39",
        "Mara has 24 eggs and bakes with 9, so 24 - 9 = 15 eggs are left.\nShe sells them for 15 * 3 = $45.\n#### 45",
    ),
    (
        "marbles: the last step alone",
        "Red: 14. Blue: 14 / 2 = 7.\nTogether that is 14 + 7 = 22 marbles.\n#### 22",
        "Red: 14. Blue: 14 / 2 = 7.\nTogether that is 14 + 7 = 21 marbles.\n#### 21",
    ),
    (
        "train: the wrong operation",
        "The train covers 60 + 4 = 64 miles in 4 hours.\nThe way back is as long: 64 * 2 = 128 miles.\n#### 128",
        "The train covers 60 * 4 = 240 miles in 4 hours.\nThe way back is as long: 240 * 2 = 480 miles.\n#### 480",
    ),
    (
        "tickets: a step was missing",
        "Three adult tickets cost 3 * 12 = $36.\n#### 36",
        "Three adult tickets cost 3 * 12 = $36.\nTwo child tickets cost 2 * 5 = $10, so 36 + 10 = $46 in all.\n#### 46",
    ),
    (
        "tickets: a step too many",
        "Five pens cost 5 * 2 = $10.\nWith tax that is 10 + 3 = $13.\n#### 13",
        "Five pens cost 5 * 2 = $10.\n#### 10",
    ),
    (
        "apples: counted in words",
        "Ben picked six apples and ate two of them. So he has three apples left.\n#### 3",
        "Ben picked six apples and ate two of them. So he has four apples left.\n#### 4",
    ),
    (
        "buses: stated without an equation",
        "There are 90 pupils and each bus seats 40. So they need 2 buses.\n#### 2",
        "There are 90 pupils and each bus seats 40. So they need 3 buses.\n#### 3",
    ),
    (
        "slip: the reasoning was right all along",
        "Each box holds 12, so 7 boxes hold 7 * 12 = 84 pencils.\n#### 94",
        "Each box holds 12, so 7 boxes hold 7 * 12 = 84 pencils.\n#### 84",
    ),
    (
        "slip: the reasoning ends in a word",
        "He saves 15 * 4 = 60 dollars in the 4 weeks.\n#### 64",
        "He saves 15 * 4 = 60 dollars in the 4 weeks.\n#### 60",
    ),
    (
        "slip: thousands",
        "The house costs 120,000 + 35,000 = 155,000 dollars.\n#### 15500",
        "The house costs 120,000 + 35,000 = 155,000 dollars.\n#### 155,000",
    ),
    (
        "percent: a rate misread",
        "20% of 250 is 25. The price after the discount is 250 - 25 = 225.\n#### 225",
        "20% of 250 is 50. The price after the discount is 250 - 50 = 200.\n#### 200",
    ),
    (
        "money: cents",
        "Each stamp is $0.55, so 8 stamps cost 8 * $0.55 = $4.80.\n#### 4.80",
        "Each stamp is $0.55, so 8 stamps cost 8 * $0.55 = $4.40.\n#### 4.40",
    ),
    (
        "ages: an input misread",
        "Lena is 7 and Tom is 3 years older, so Tom is 7 + 3 = 10.\n"
        "Their mother is four times Lena: 4 * 10 = 40.\n#### 40",
        "Lena is 7 and Tom is 3 years older, so Tom is 7 + 3 = 10.\n"
        "Their mother is four times Lena: 4 * 7 = 28.\n#### 28",
    ),
    (
        "the old answer was an input too",
        "She had 5 cats and 2 dogs. 5 + 2 = 5 pets.\n#### 5",
        "She had 5 cats and 2 dogs. 5 + 2 = 7 pets.\n#### 7",
    ),
    (
        "the old answer stays as a step",
        "7 - 2 = 5 are left on Monday.\n5 + 1 = 5 are there on Tuesday.\n#### 5",
        "7 - 2 = 5 are left on Monday.\n5 + 1 = 6 are there on Tuesday.\n#### 6",
    ),
    (
        "calculator marks",
        "He runs 3*3=<<3*3=6>>6 sprints.\nSo he runs 6*60=<<6*60=360>>360 meters.\n#### 360",
        "He runs 3*3=<<3*3=9>>9 sprints.\nSo he runs 9*60=<<9*60=540>>540 meters.\n#### 540",
    ),
    (
        "restated three times",
        "18 / 3 = 5. So each child gets 5 sweets. Therefore the answer is 5.\n#### 5",
        "18 / 3 = 6. So each child gets 6 sweets. Therefore the answer is 6.\n#### 6",
    ),
    (
        "numbered steps",
        "Step 1: The area is 8 * 5 = 45.\nStep 2: Two of them are 2 * 45 = 90.\n#### 90",
        "Step 1: The area is 8 * 5 = 40.\nStep 2: Two of them are 2 * 40 = 80.\n#### 80",
    ),
    (
        "bullets and bold",
        "- **Monday**: 4 x 6 = 26 loaves\n- **Tuesday**: 26 + 5 = 31 loaves\n#### 31",
        "- **Monday**: 4 x 6 = 24 loaves\n- **Tuesday**: 24 + 5 = 29 loaves\n#### 29",
    ),
    (
        "times as a word",
        "Nine times seven is 56, and 56 minus 3 is 53.\n#### 53",
        "Nine times seven is 63, and 63 minus 3 is 60.\n#### 60",
    ),
    (
        "a word problem about students",
        "Of the 30 students, 12 walk, so 30 - 12 = 16 ride.\n#### 16",
        "Of the 30 students, 12 walk, so 30 - 12 = 18 students ride.\n#### 18",
    ),
    (
        "students are named by the question alone",
        "30 - 12 = 16.\n#### 16",
        "30 - 12 = 18 students ride the bus.\n#### 18",
        "Of 30 students 12 walk to school. How many students ride the bus?",
    ),
    (
        "an error of measurement is asked for",
        "The difference is 10.2 - 10 = 0.4.\n#### 0.4",
        "The difference is 10.2 - 10 = 0.2, which is the error.\n#### 0.2",
        "A rod of 10 cm is measured as 10.2 cm. What is the error of the measurement in cm?",
    ),
    # ---- the tiny tasks
    ("chain of sums", "a=1+4=5\nb=a+3=9\nc=b-2=7\n#### 7", "a=1+4=5\nb=a+3=8\nc=b-2=6\n#### 6"),
    ("chain with a wrong end", "c=9+2=1\n#### 1", "c=9+2=11\n#### 11"),
    ("chain with a wrong line", "a=3\nb=a*2=5\n#### 5", "a=3\nb=a*2=6\n#### 6"),
    ("one step", "2+3=6\n#### 6", "2+3=5\n#### 5"),
    ("no mark yet", "a=2+2=5", "a=2+2=4\n#### 4"),
    # ---- algebra and LaTeX in the box
    (
        "linear equation",
        "We have 2x + 6 = 16.\nSubtracting, 2x = 12, so x = 6.\nThe answer is \\boxed{6}.",
        "We have 2x + 6 = 16.\nSubtracting, 2x = 10, so x = 5.\nThe answer is \\boxed{5}.",
    ),
    (
        "linear equation: the last line alone",
        "We have 2x + 6 = 16, so 2x = 10 and x = 6.\n\\boxed{6}",
        "We have 2x + 6 = 16, so 2x = 10 and x = 5.\n\\boxed{5}",
    ),
    (
        "a coefficient is the old answer",
        "Combining, 4c - 2 = 10, hence 4c = 12.\nDividing, we get c = 4.\n\\boxed{4}",
        "Combining, 4c - 2 = 10, hence 4c = 12.\nDividing, we get c = 3.\n\\boxed{3}",
    ),
    (
        "another letter has the old answer",
        "From the second line, $b = 3$. From $3a = 6$ we get $a = 3$.\nSo \\boxed{a = 3}.",
        "From the second line, $b = 3$. From $3a = 6$ we get $a = 2$.\nSo \\boxed{a = 2}.",
    ),
    (
        "a sign",
        "Moving terms, $3x = -12$, so $x = 4$. Thus \\boxed{4}.",
        "Moving terms, $3x = -12$, so $x = -4$. Thus \\boxed{-4}.",
    ),
    (
        "a square root",
        "By Pythagoras the leg is $\\sqrt{100 - 49} = \\sqrt{49}$. \\boxed{\\sqrt{49}}",
        "By Pythagoras the leg is $\\sqrt{100 - 49} = \\sqrt{51}$. \\boxed{\\sqrt{51}}",
    ),
    (
        "a square root, stated",
        "By Pythagoras the leg of the triangle is $\\sqrt{49}$. So \\boxed{\\sqrt{49}}.",
        "By Pythagoras the leg of the triangle is $\\sqrt{51}$. So \\boxed{\\sqrt{51}}.",
    ),
    (
        "a binomial",
        "Expanding, $(a+b)^2 = a^2 + b^2$. \\boxed{a^2 + b^2}",
        "Expanding, $(a+b)^2 = a^2 + 2ab + b^2$. \\boxed{a^2 + 2ab + b^2}",
    ),
    (
        "letters alone",
        "Solving for $y$ gives $y = \\frac{z}{x}$, hence \\boxed{\\frac{z}{x}}.",
        "Solving for $y$ gives $y = \\frac{x}{z}$, hence \\boxed{\\frac{x}{z}}.",
    ),
    (
        "complex numbers",
        "$(1+2i) \\cdot 6 - 3i = 6 + 12i + 3i = 6 + 15i$. \\boxed{6+15i}",
        "$(1+2i) \\cdot 6 - 3i = 6 + 12i - 3i = 6 + 9i$. \\boxed{6+9i}",
    ),
    (
        "a line",
        "The slope is $(5-1)/(1-(-1)) = 1$ and the intercept is 3. \\boxed{y = x + 3}",
        "The slope is $(5-1)/(1-(-1)) = 2$ and the intercept is 3. \\boxed{y = 2x + 3}",
    ),
    (
        "degrees",
        "The angles add to $180^\\circ$, so $\\alpha = 180^\\circ - 110^\\circ = 80^\\circ$. \\boxed{80^\\circ}",
        "The angles add to $180^\\circ$, so $\\alpha = 180^\\circ - 110^\\circ = 70^\\circ$. \\boxed{70^\\circ}",
    ),
    (
        "a power of ten",
        "There are $3 \\times 10^4 \\cdot 2 = 6 \\times 10^5$ cells. \\boxed{6 \\times 10^5}",
        "There are $3 \\times 10^4 \\cdot 2 = 6 \\times 10^4$ cells. \\boxed{6 \\times 10^4}",
    ),
    (
        "an inequality turns round",
        "Dividing $-2x < 6$ by $-2$ gives $x < -3$. \\boxed{x < -3}",
        "Dividing $-2x < 6$ by $-2$ gives $x > -3$. \\boxed{x > -3}",
    ),
    # ---- fractions and tuples in the box
    (
        "a fraction",
        "The chance is $\\frac{3}{8} + \\frac{1}{4} = \\frac{4}{12}$. \\boxed{\\frac{4}{12}}",
        "The chance is $\\frac{3}{8} + \\frac{1}{4} = \\frac{5}{8}$. \\boxed{\\frac{5}{8}}",
    ),
    (
        "slip: a fraction",
        "There are 12 pairs of 36, and $\\frac{12}{36} = \\frac{1}{3}$. \\boxed{\\frac{1}{2}}",
        "There are 12 pairs of 36, and $\\frac{12}{36} = \\frac{1}{3}$. \\boxed{\\frac{1}{3}}",
    ),
    (
        "slip: a fraction reached as a decimal",
        "Half of 1.5 is 1.5 / 2 = 0.75.\n#### 3/5",
        "Half of 1.5 is 1.5 / 2 = 0.75.\n#### 3/4",
    ),
    (
        "slip: a tuple",
        "Adding the equations, x = 2. Then y = 7 - 2 * 2 = 3.\n\\boxed{(2, 4)}",
        "Adding the equations, x = 2. Then y = 7 - 2 * 2 = 3.\n\\boxed{(2, 3)}",
    ),
    (
        "slip: a tuple without a space",
        "So she makes 3 * 4 = 12 rows and 12 * 45 = 540 seats.\n#### (12,450)",
        "So she makes 3 * 4 = 12 rows and 12 * 45 = 540 seats.\n#### (12,540)",
    ),
    (
        "a tuple, one part wrong",
        "Adding the equations, x = 4. Then y = 7 - 2 * 2 = 3.\n\\boxed{(4, 3)}",
        "Adding the equations, x = 2. Then y = 7 - 2 * 2 = 3.\n\\boxed{(2, 3)}",
    ),
    (
        "slip: two solutions",
        "The factors vanish at x = -1 and x = 4.\n\\boxed{-1, -4}",
        "The factors vanish at x = -1 and x = 4.\n\\boxed{-1, 4}",
    ),
    # ---- a computation inside the box, or in an unmarked last line
    ("sum in the box", "There are 12 red and 5 blue.\n\\boxed{12 + 5 = 18}",
     "There are 12 red and 5 blue.\n\\boxed{12 + 5 = 17}"),
    ("product in the box", "Six rows of seven.\n\\boxed{6 \\times 7 = 48}",
     "Six rows of seven.\n\\boxed{6 \\times 7 = 42}"),
    ("operation in the box", "He gives away a third of 12.\n\\boxed{12 - 3}",
     "He gives away a third of 12.\n\\boxed{12 - 4}"),
    ("computation under ####", "Each of 8 friends gets 3.\n#### 8 * 3 = 25",
     "Each of 8 friends gets 3.\n#### 8 * 3 = 24"),
    ("fraction worked in the box", "Simplify.\n\\boxed{\\frac{6}{8} = \\frac{2}{3}}",
     "Simplify.\n\\boxed{\\frac{6}{8} = \\frac{3}{4}}"),
    (
        "unmarked last line",
        "The rope is 30 m long and is cut into 6 parts.\nEach part is 30 / 6 = 6 m long.",
        "The rope is 30 m long and is cut into 6 parts.\nEach part is 30 / 6 = 5 m long.",
    ),
    (
        "unmarked last line, stated",
        "The jug holds 3 litres and half of it is gone.\nSo 2 litres are left.",
        "The jug holds 3 litres and half of it is gone.\nSo 1.5 litres are left.",
    ),
    ("unmarked slip", "4 * 9 = 36.\nThe answer is 46.", "4 * 9 = 36.\nThe answer is 36."),
    # ---- thoughts
    (
        "an edit in the thoughts",
        "<think>6 * 7 = 43, minus 2 is 41.</think>\nThe answer is 41.\n#### 41",
        "<think>6 * 7 = 42, minus 2 is 40.</think>\nThe answer is 40.\n#### 40",
    ),
    (
        "marks in the thoughts",
        "<think>Perhaps \\boxed{12}? 5 + 8 = 12.</think>\nSo it is \\boxed{12}.",
        "<think>Perhaps \\boxed{12}? No: 5 + 8 = 13, \\boxed{13}?</think>\nSo it is \\boxed{13}.",
    ),
    (
        "thoughts opened by the prompt",
        "First 9 - 4 = 6.\n#### 6?\n</think>\n\nNine less four is 6.\n#### 6",
        "First 9 - 4 = 5.\n#### 6? No.\n</think>\n\nNine less four is 5.\n#### 5",
    ),
    (
        "slip after right thoughts",
        "<think>11 * 11 = 121</think>\nThe square is 112.\n#### 112",
        "<think>11 * 11 = 121</think>\nThe square is 121.\n#### 121",
    ),
    # ---- several marks, other forms
    (
        "one answer under two marks",
        "6 * 4 = 26.\nThe answer is \\boxed{26}.\n#### 26",
        "6 * 4 = 24.\nThe answer is \\boxed{24}.\n#### 24.0",
    ),
    (
        "a second mark is added",
        "2 * 15 = 35, so it is 35 dollars.\n#### 35",
        "2 * 15 = 30, so it is \\boxed{\\$30}.\n#### 30 dollars",
    ),
    # ---- answers in words and letters
    (
        "multiple choice",
        "Water boils at 100 degrees, which is option B, and that is why we choose B.\n#### B",
        "Water boils at 100 degrees, which is option C, and that is why we choose C.\n#### C",
    ),
    (
        "multiple choice, another reason",
        "The capital of Australia is Sydney.\n#### A",
        "The capital of Australia is Canberra.\n#### D",
    ),
    (
        "yes or no",
        "91 is divisible by no prime below 10, so 91 is prime.\n#### yes",
        "91 is 7 * 13, so 91 is not prime.\n#### no",
    ),
    ("a weekday", "Three days after Monday comes Friday.\n#### Friday",
     "Three days after Monday comes Thursday.\n#### Thursday"),
    # ---- beside an anchor
    (
        "the anchor goes another way",
        "He buys 3 pens for 3 * 2 = $5.\nThen 2 books cost 2 * 7 = $14.\nIn all, 5 + 14 = $19.\n#### 19",
        "He buys 3 pens for 3 * 2 = $6.\nThen 2 books cost 2 * 7 = $14.\nIn all, 6 + 14 = $20.\n#### 20",
        "",
        "The books come to 14 dollars. The pens come to 6 dollars. Add the two: 20 dollars.\n#### 20",
    ),
    (
        "the anchor shares the wording",
        "The shirt costs 40 - 10 = $25.\nTwo shirts cost 2 * 25 = $50.\n#### 50",
        "The shirt costs 40 - 10 = $30.\nTwo shirts cost 2 * 30 = $60.\n#### 60",
        "",
        "The shirt costs 40 - 10 = $30.\nTwo shirts cost 2 * 30 = $60.\n#### 60",
    ),
    (
        "one sentence becomes the anchor's",
        "Of 20 guests 5 leave, so 25 stay.\nEach gets 2 plates, so 25 * 2 = 50 plates.\n#### 50",
        "After 5 of 20 guests left, 15 stay.\nEach gets 2 plates, so 15 * 2 = 30 plates.\n#### 30",
        "",
        "After 5 of 20 guests left, 15 stay.\nWe need 15 * 2 = 30 plates.\n#### 30",
    ),
]  # fmt: skip
