"""The classic exercises: how people ask for each, one good answer, and tests of its own.

In the texts `$f` is the function, `$a` and `$b` its parameters and `$r`, `$x`, `$i` its locals.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

from training.corpus.source import Pool, lines, spaced


@dataclass(frozen=True)
class Classic:
    title: str
    chinese: str
    names: Pool
    default_name: str
    parameters: tuple[str, ...]  # "kind name other_name ..." of $a, $b, ...
    does: Pool
    code: str
    tests: tuple[str, ...]
    example: str = ""  # a call worth printing at the end of a script


def classic(
    title: str,
    chinese: str,
    names: str,
    parameters: tuple[str, ...],
    does: str,
    code: str,
    tests: tuple[str, ...],
    example: str = "",
    always: str = "",
) -> Classic:
    default = names.split()[0]
    known = (always,) if always else ()
    text = dedent(code).strip()
    pool = Pool(names.split(), (default,))
    return Classic(
        title, chinese, pool, default, parameters, lines(does, *known), text, tests, example
    )


INTEGER = "integer n num number limit count"
TEXT = "string s text word string"
LIST = "list numbers items values arr data nums lst"
PATH = "string path file_path filename name"

CLASSICS: tuple[Classic, ...] = (
    classic(
        "prime numbers",
        "求质数",
        "find_prime_numbers find_primes get_primes primes_below list_primes generate_primes prime_list",
        (INTEGER,),
        """returns all prime numbers less than $a
        finds all primes below $a
        returns a list of the primes smaller than $a
        gives the list of prime numbers up to but not including $a
        collects every prime number under $a""",
        """
        def $f($a):
            if $a <= 2:
                return []
            $r = []
            for candidate in range(2, $a):
                is_prime = True
                for $i in range(2, int(candidate ** 0.5) + 1):
                    if candidate % $i == 0:
                        is_prime = False
                        break
                if is_prime:
                    $r.append(candidate)
            return $r
        """,
        ("$f(10) == [2, 3, 5, 7]", "$f(2) == []", "$f(3) == [2]", "$f(30)[-1] == 29"),
        "100",
        "returns a list of all prime numbers less than $a",
    ),
    classic(
        "prime check",
        "判断质数",
        "is_prime check_prime prime_check test_prime is_prime_number",
        (INTEGER,),
        """checks whether $a is a prime number
        returns True if $a is prime
        tells if $a is a prime
        tests whether the number $a is prime and returns a boolean""",
        """
        def $f($a):
            if $a < 2:
                return False
            for $i in range(2, int($a ** 0.5) + 1):
                if $a % $i == 0:
                    return False
            return True
        """,
        ("$f(7)", "not $f(9)", "not $f(1)", "$f(2)"),
        "17",
    ),
    classic(
        "quick sort",
        "快速排序",
        "quick_sort quicksort qsort sort_quick fast_sort do_quick_sort",
        (LIST.replace("numbers", "arr numbers"),),
        """sorts the list $a with quick sort
        implements quick sort for $a
        returns $a sorted by the quick sort algorithm
        uses quicksort to sort $a""",
        """
        def $f($a):
            if len($a) <= 1:
                return $a
            pivot = $a[len($a) // 2]
            left = [$x for $x in $a if $x < pivot]
            middle = [$x for $x in $a if $x == pivot]
            right = [$x for $x in $a if $x > pivot]
            return $f(left) + middle + $f(right)
        """,
        ("$f([3, 1, 2]) == [1, 2, 3]", "$f([]) == []", "$f([5, 5, -1]) == [-1, 5, 5]"),
        "[3, 6, 8, 10, 1, 2, 1]",
    ),
    classic(
        "bubble sort",
        "冒泡排序",
        "bubble_sort bubblesort sort_bubble bubble do_bubble_sort",
        (LIST,),
        """sorts the list $a with bubble sort
        implements bubble sort for $a
        returns $a sorted by the bubble sort algorithm
        uses bubble sort to order $a""",
        """
        def $f($a):
            for $i in range(len($a)):
                for j in range(len($a) - 1 - $i):
                    if $a[j] > $a[j + 1]:
                        $a[j], $a[j + 1] = $a[j + 1], $a[j]
            return $a
        """,
        ("$f([3, 1, 2]) == [1, 2, 3]", "$f([]) == []", "$f([9, 8, 8]) == [8, 8, 9]"),
        "[5, 2, 9, 1]",
    ),
    classic(
        "insertion sort",
        "插入排序",
        "insertion_sort insert_sort sort_by_insertion insertion",
        (LIST,),
        """sorts the list $a with insertion sort
        implements insertion sort for $a
        returns $a sorted by the insertion sort algorithm
        uses insertion sort to order $a""",
        """
        def $f($a):
            for $i in range(1, len($a)):
                key = $a[$i]
                j = $i - 1
                while j >= 0 and $a[j] > key:
                    $a[j + 1] = $a[j]
                    j -= 1
                $a[j + 1] = key
            return $a
        """,
        ("$f([3, 1, 2]) == [1, 2, 3]", "$f([]) == []", "$f([4, 4, 0]) == [0, 4, 4]"),
        "[5, 2, 9, 1]",
    ),
    classic(
        "merge sort",
        "归并排序",
        "merge_sort mergesort sort_merge do_merge_sort",
        (LIST,),
        """sorts the list $a with merge sort
        implements merge sort for $a
        returns $a sorted by the merge sort algorithm
        uses merge sort to order $a""",
        """
        def $f($a):
            if len($a) <= 1:
                return $a
            middle = len($a) // 2
            left = $f($a[:middle])
            right = $f($a[middle:])
            $r = []
            while left and right:
                if left[0] <= right[0]:
                    $r.append(left.pop(0))
                else:
                    $r.append(right.pop(0))
            return $r + left + right
        """,
        ("$f([3, 1, 2]) == [1, 2, 3]", "$f([]) == []", "$f([2, 2, 1]) == [1, 2, 2]"),
        "[5, 2, 9, 1]",
    ),
    classic(
        "binary search",
        "二分查找",
        "binary_search bin_search search_sorted find_binary",
        (LIST, "integer target value key x"),
        """finds the index of $b in the sorted list $a with binary search
        searches the sorted list $a for $b by binary search
        returns the position of $b in the sorted list $a, or -1
        does a binary search for $b in $a""",
        """
        def $f($a, $b):
            low = 0
            high = len($a) - 1
            while low <= high:
                middle = (low + high) // 2
                if $a[middle] == $b:
                    return middle
                if $a[middle] < $b:
                    low = middle + 1
                else:
                    high = middle - 1
            return -1
        """,
        ("$f([1, 3, 5], 5) == 2", "$f([1, 3, 5], 4) == -1", "$f([], 1) == -1"),
        "[1, 3, 5, 7], 5",
    ),
    classic(
        "palindrome check",
        "判断回文",
        "is_palindrome check_palindrome palindrome test_palindrome",
        (TEXT,),
        """checks whether $a is a palindrome
        returns True if $a is a palindrome
        tells if $a reads the same backwards
        tests whether the string $a is a palindrome""",
        """
        def $f($a):
            return $a == $a[::-1]
        """,
        ("$f('level')", "not $f('ab')", "$f('')"),
        '"level"',
    ),
    classic(
        "fibonacci numbers",
        "斐波那契数列",
        "fibonacci fib fibonacci_numbers get_fibonacci fibonacci_list fibs",
        (INTEGER,),
        """returns a list of the first $a Fibonacci numbers
        gives the first $a numbers of the Fibonacci sequence
        generates the first $a Fibonacci numbers
        lists $a Fibonacci numbers starting from 0""",
        """
        def $f($a):
            $r = []
            a, b = 0, 1
            for _ in range($a):
                $r.append(a)
                a, b = b, a + b
            return $r
        """,
        ("$f(5) == [0, 1, 1, 2, 3]", "$f(0) == []", "$f(1) == [0]"),
        "10",
    ),
    classic(
        "factorial",
        "阶乘",
        "factorial fact compute_factorial get_factorial calc_factorial",
        (INTEGER,),
        """returns the factorial of $a
        computes the factorial of $a
        calculates $a factorial
        gives the product of all integers from 1 to $a""",
        """
        def $f($a):
            $r = 1
            for $i in range(2, $a + 1):
                $r *= $i
            return $r
        """,
        ("$f(5) == 120", "$f(0) == 1", "$f(1) == 1"),
        "5",
    ),
    classic(
        "greatest common divisor",
        "最大公约数",
        "gcd greatest_common_divisor find_gcd get_gcd common_divisor",
        ("integer a x m first", "integer b y n second"),
        """returns the greatest common divisor of $a and $b
        computes the gcd of $a and $b
        finds the largest number that divides both $a and $b
        calculates the greatest common divisor of two numbers $a and $b""",
        """
        def $f($a, $b):
            while $b:
                $a, $b = $b, $a % $b
            return $a
        """,
        ("$f(12, 18) == 6", "$f(7, 5) == 1", "$f(4, 0) == 4"),
        "12, 18",
    ),
    classic(
        "word reversal",
        "反转单词顺序",
        "reverse_words reverse_word_order words_reversed flip_words",
        (TEXT,),
        """reverses the order of the words in $a
        returns $a with its words in reverse order
        turns around the order of words in the string $a
        gives the words of $a from last to first""",
        """
        def $f($a):
            return " ".join($a.split()[::-1])
        """,
        ("$f('a b c') == 'c b a'", "$f('one') == 'one'"),
        '"hello big world"',
    ),
    classic(
        "reversing each word",
        "反转每个单词",
        "reverse_each_word reverse_letters mirror_words flip_each_word",
        (TEXT,),
        """reverses each word in $a but keeps the word order
        returns $a with every word reversed
        reverses the letters of each word of $a
        turns every word of the string $a around""",
        """
        def $f($a):
            return " ".join($x[::-1] for $x in $a.split())
        """,
        ("$f('abc de') == 'cba ed'", "$f('') == ''"),
        '"hello world"',
    ),
    classic(
        "reversing words with special characters",
        "反转单词并保留特殊字符",
        "reverse_words_with_special_chars reverse_keep_punctuation reverse_letters_only",
        (TEXT,),
        """reverses each word in $a while keeping non-alphabetic characters in their places
        reverses the letters of every word of $a and leaves punctuation where it is
        reverses each word of $a, preserving the position of special characters""",
        """
        def $f($a):
            $r = []
            for $x in $a.split(" "):
                letters = [c for c in $x if c.isalpha()]
                $r.append("".join(letters.pop() if c.isalpha() else c for c in $x))
            $r = " ".join($r)
            return $r
        """,
        ("$f('Hello, world!') == 'olleH, dlrow!'", "$f('a-b') == 'b-a'"),
        '"Hello, world!"',
    ),
    classic(
        "string reversal",
        "反转字符串",
        "reverse_string reverse reverse_text flip_string backwards",
        (TEXT,),
        """returns the string $a reversed
        reverses the string $a
        returns $a backwards
        turns the text $a around""",
        """
        def $f($a):
            return $a[::-1]
        """,
        ("$f('abc') == 'cba'", "$f('') == ''"),
        '"hello"',
    ),
    classic(
        "vowel count",
        "统计元音",
        "count_vowels vowel_count number_of_vowels get_vowels",
        (TEXT,),
        """counts the vowels in $a
        returns the number of vowels in $a
        tells how many vowels the string $a has
        gives the vowel count of $a""",
        """
        def $f($a):
            $r = 0
            for $x in $a.lower():
                if $x in "aeiou":
                    $r += 1
            return $r
        """,
        ("$f('Hello') == 2", "$f('xyz') == 0", "$f('AEIOU') == 5"),
        '"hello world"',
    ),
    classic(
        "word count",
        "统计词频",
        "count_words word_count word_frequency count_each_word words_counted",
        (TEXT,),
        """counts how often each word occurs in $a
        returns a dictionary with the count of every word in $a
        counts the words of $a in a dictionary
        gives the word frequencies of the string $a""",
        """
        def $f($a):
            $r = {}
            for $x in $a.split():
                $r[$x] = $r.get($x, 0) + 1
            return $r
        """,
        ("$f('a b a') == {'a': 2, 'b': 1}", "$f('') == {}"),
        '"to be or not to be"',
    ),
    classic(
        "character count",
        "统计字符",
        "count_characters char_count char_frequency letter_counts count_letters",
        (TEXT,),
        """counts how often each character occurs in $a
        returns a dictionary with the count of every character in $a
        counts the letters of $a in a dictionary
        gives the character frequencies of the string $a""",
        """
        def $f($a):
            $r = {}
            for $x in $a:
                $r[$x] = $r.get($x, 0) + 1
            return $r
        """,
        ("$f('aba') == {'a': 2, 'b': 1}", "$f('') == {}"),
        '"banana"',
    ),
    classic(
        "anagram check",
        "判断变位词",
        "is_anagram are_anagrams check_anagram anagrams",
        ("string a first s word1", "string b second t word2"),
        """checks whether $a and $b are anagrams
        returns True if $a is an anagram of $b
        tells if the strings $a and $b have the same letters
        tests whether two words $a and $b are anagrams""",
        """
        def $f($a, $b):
            return sorted($a) == sorted($b)
        """,
        ("$f('listen', 'silent')", "not $f('a', 'b')"),
        '"listen", "silent"',
    ),
    classic(
        "FizzBuzz",
        "FizzBuzz ",
        "fizz_buzz fizzbuzz fizz_buzz_list play_fizz_buzz",
        (INTEGER,),
        """returns the FizzBuzz list from 1 to $a
        gives FizzBuzz up to $a as a list of strings
        plays FizzBuzz for the numbers 1 to $a
        implements FizzBuzz up to $a""",
        """
        def $f($a):
            $r = []
            for $i in range(1, $a + 1):
                if $i % 15 == 0:
                    $r.append("FizzBuzz")
                elif $i % 3 == 0:
                    $r.append("Fizz")
                elif $i % 5 == 0:
                    $r.append("Buzz")
                else:
                    $r.append(str($i))
            return $r
        """,
        ("$f(5) == ['1', '2', 'Fizz', '4', 'Buzz']", "$f(15)[-1] == 'FizzBuzz'"),
        "15",
    ),
    classic(
        "flattening a list",
        "展平列表",
        "flatten flatten_list flat make_flat unnest",
        ("list nested items lists values data",),
        """flattens the nested list $a
        returns the items of all lists in $a as one list
        turns a list of lists $a into one flat list
        makes one list out of the lists in $a""",
        """
        def $f($a):
            $r = []
            for $x in $a:
                $r.extend($x)
            return $r
        """,
        ("$f([[1], [2, 3]]) == [1, 2, 3]", "$f([]) == []"),
        "[[1, 2], [3]]",
    ),
    classic(
        "removing duplicates",
        "去除重复元素",
        "remove_duplicates unique dedupe unique_items drop_duplicates",
        (LIST,),
        """removes duplicates from $a and keeps the order
        returns the unique items of $a in order
        returns $a without repeated items
        drops duplicate values from the list $a""",
        """
        def $f($a):
            $r = []
            for $x in $a:
                if $x not in $r:
                    $r.append($x)
            return $r
        """,
        ("$f([1, 2, 1]) == [1, 2]", "$f([]) == []", "$f([3, 3]) == [3]"),
        "[1, 2, 1, 3]",
    ),
    classic(
        "largest number",
        "求最大值",
        "find_max max_value largest find_largest maximum get_max",
        (LIST,),
        """returns the largest number in $a
        finds the maximum of the list $a
        gives the biggest value in $a
        returns the maximum of $a without using max""",
        """
        def $f($a):
            $r = $a[0]
            for $x in $a:
                if $x > $r:
                    $r = $x
            return $r
        """,
        ("$f([1, 5, 3]) == 5", "$f([-2, -1]) == -1"),
        "[3, 9, 4]",
    ),
    classic(
        "smallest number",
        "求最小值",
        "find_min min_value smallest find_smallest minimum get_min",
        (LIST,),
        """returns the smallest number in $a
        finds the minimum of the list $a
        gives the lowest value in $a
        returns the minimum of $a without using min""",
        """
        def $f($a):
            $r = $a[0]
            for $x in $a:
                if $x < $r:
                    $r = $x
            return $r
        """,
        ("$f([4, 5, 3]) == 3", "$f([-2, -1]) == -2"),
        "[3, 9, 4]",
    ),
    classic(
        "digit sum",
        "数字之和",
        "sum_digits digit_sum sum_of_digits add_digits",
        (INTEGER,),
        """returns the sum of the digits of $a
        adds up the digits of $a
        computes the digit sum of $a
        calculates the sum of all digits in $a""",
        """
        def $f($a):
            return sum(int($x) for $x in str($a))
        """,
        ("$f(123) == 6", "$f(0) == 0"),
        "1234",
    ),
    classic(
        "leap year check",
        "判断闰年",
        "is_leap_year leap_year check_leap_year is_leap",
        ("integer year y",),
        """checks whether $a is a leap year
        returns True if $a is a leap year
        tells if the year $a is a leap year
        tests whether $a is a leap year""",
        """
        def $f($a):
            return $a % 4 == 0 and ($a % 100 != 0 or $a % 400 == 0)
        """,
        ("$f(2000)", "not $f(1900)", "$f(2024)", "not $f(2023)"),
        "2024",
    ),
    classic(
        "Celsius to Fahrenheit",
        "摄氏转华氏",
        "celsius_to_fahrenheit to_fahrenheit c_to_f convert_celsius",
        ("number celsius c degrees temperature",),
        """converts $a from Celsius to Fahrenheit
        turns the Celsius temperature $a into Fahrenheit
        returns $a degrees Celsius in Fahrenheit
        converts a temperature $a to Fahrenheit""",
        """
        def $f($a):
            return $a * 9 / 5 + 32
        """,
        ("$f(0) == 32", "$f(100) == 212"),
        "20",
    ),
    classic(
        "Caesar cipher",
        "凯撒密码",
        "caesar_cipher caesar encrypt_caesar shift_text",
        (TEXT, "integer shift key k offset"),
        """encrypts $a with a Caesar cipher and shift $b
        shifts every letter of $a by $b places
        applies the Caesar cipher with shift $b to $a
        returns $a encrypted by the Caesar cipher with key $b""",
        """
        def $f($a, $b):
            $r = ""
            for $x in $a:
                if $x.isalpha():
                    base = ord("A") if $x.isupper() else ord("a")
                    $r += chr((ord($x) - base + $b) % 26 + base)
                else:
                    $r += $x
            return $r
        """,
        ("$f('abc', 1) == 'bcd'", "$f('Z!', 1) == 'A!'"),
        '"hello", 3',
    ),
    classic(
        "two sum",
        "两数之和",
        "two_sum find_pair find_two_sum pair_sum",
        (LIST, "integer target total goal sum_wanted"),
        """returns the indices of two numbers in $a that add up to $b
        finds two positions in $a whose values sum to $b
        solves two sum for the list $a and the target $b
        finds the pair of indices in $a with the sum $b""",
        """
        def $f($a, $b):
            seen = {}
            for $i, $x in enumerate($a):
                if $b - $x in seen:
                    return [seen[$b - $x], $i]
                seen[$x] = $i
            return []
        """,
        ("$f([2, 7, 11], 9) == [0, 1]", "$f([1], 5) == []"),
        "[2, 7, 11, 15], 9",
    ),
    classic(
        "average",
        "求平均值",
        "average mean get_average compute_mean avg",
        (LIST,),
        """returns the average of $a
        computes the mean of the numbers in $a
        calculates the average of the list $a
        gives the mean value of $a""",
        """
        def $f($a):
            if not $a:
                return 0
            return sum($a) / len($a)
        """,
        ("$f([1, 2, 3]) == 2", "$f([4]) == 4"),
        "[1, 2, 3]",
    ),
    classic(
        "median",
        "求中位数",
        "median get_median find_median compute_median",
        (LIST,),
        """returns the median of $a
        computes the median of the numbers in $a
        finds the middle value of the list $a
        calculates the median of $a""",
        """
        def $f($a):
            ordered = sorted($a)
            middle = len(ordered) // 2
            if len(ordered) % 2 == 1:
                return ordered[middle]
            return (ordered[middle - 1] + ordered[middle]) / 2
        """,
        ("$f([3, 1, 2]) == 2", "$f([1, 2, 3, 4]) == 2.5"),
        "[3, 1, 2]",
    ),
    classic(
        "chunking a list",
        "列表分块",
        "chunk chunk_list split_list make_chunks in_chunks",
        (LIST, "integer size n length width"),
        """splits $a into chunks of size $b
        cuts the list $a into pieces of $b items
        returns $a as a list of chunks with $b items each
        divides $a into parts of length $b""",
        """
        def $f($a, $b):
            return [$a[$i:$i + $b] for $i in range(0, len($a), $b)]
        """,
        ("$f([1, 2, 3], 2) == [[1, 2], [3]]", "$f([], 3) == []"),
        "[1, 2, 3, 4, 5], 2",
    ),
    classic(
        "prime factors",
        "质因数分解",
        "prime_factors factorize get_factors find_prime_factors",
        (INTEGER,),
        """returns the prime factors of $a
        finds the prime factors of $a as a list
        factorizes $a into primes
        splits $a into its prime factors""",
        """
        def $f($a):
            $r = []
            $i = 2
            while $i * $i <= $a:
                while $a % $i == 0:
                    $r.append($i)
                    $a //= $i
                $i += 1
            if $a > 1:
                $r.append($a)
            return $r
        """,
        ("$f(12) == [2, 2, 3]", "$f(7) == [7]"),
        "60",
    ),
    classic(
        "binary conversion",
        "十进制转二进制",
        "to_binary decimal_to_binary int_to_binary binary_string",
        (INTEGER,),
        """converts $a to a binary string
        returns the binary form of $a as a string
        turns the integer $a into binary
        gives $a written in binary""",
        """
        def $f($a):
            if $a == 0:
                return "0"
            $r = ""
            while $a > 0:
                $r = str($a % 2) + $r
                $a //= 2
            return $r
        """,
        ("$f(5) == '101'", "$f(0) == '0'"),
        "10",
    ),
    classic(
        "common elements",
        "求共同元素",
        "common_elements intersection shared_items find_common",
        ("list a first left xs", "list b second right ys"),
        """returns the items that are in both $a and $b
        finds the common elements of $a and $b
        gives the intersection of the lists $a and $b
        returns what $a and $b have in common""",
        """
        def $f($a, $b):
            return [$x for $x in $a if $x in $b]
        """,
        ("$f([1, 2, 3], [2, 3, 4]) == [2, 3]", "$f([], [1]) == []"),
        "[1, 2, 3], [2, 3, 4]",
    ),
    classic(
        "matrix transposition",
        "矩阵转置",
        "transpose transpose_matrix flip_matrix swap_axes",
        ("list matrix m rows grid",),
        """transposes the matrix $a
        returns the transpose of $a
        swaps the rows and columns of $a
        turns the rows of the matrix $a into columns""",
        """
        def $f($a):
            return [list($x) for $x in zip(*$a)]
        """,
        ("$f([[1, 2], [3, 4]]) == [[1, 3], [2, 4]]",),
        "[[1, 2], [3, 4]]",
    ),
    classic(
        "Collatz sequence",
        "考拉兹序列",
        "collatz collatz_sequence hailstone collatz_steps",
        (INTEGER,),
        """returns the Collatz sequence that starts at $a
        gives the Collatz numbers from $a down to 1
        lists the Collatz sequence of $a
        computes the Collatz sequence for $a""",
        """
        def $f($a):
            $r = [$a]
            while $a != 1:
                if $a % 2 == 0:
                    $a //= 2
                else:
                    $a = 3 * $a + 1
                $r.append($a)
            return $r
        """,
        ("$f(6) == [6, 3, 10, 5, 16, 8, 4, 2, 1]", "$f(1) == [1]"),
        "6",
    ),
    classic(
        "reading a file",
        "读取文件",
        "read_file load_file read_text get_content load_text",
        (PATH,),
        """reads the file $a and returns its content
        returns the text of the file $a
        opens the file $a and gives back its text
        reads all text from the file at $a""",
        """
        def $f($a):
            with open($a, encoding="utf-8") as file:
                return file.read()
        """,
        ("$f('sample.txt') == 'one\\ntwo\\nthree\\n'",),
        '"notes.txt"',
    ),
    classic(
        "reading lines",
        "读取文件的行",
        "read_lines get_lines load_lines file_lines lines_of_file",
        (PATH,),
        """reads the file $a and returns its lines as a list
        returns the list of lines of the file $a
        opens the file $a and gives back a list of its lines
        reads all lines from the file at $a""",
        """
        def $f($a):
            with open($a, encoding="utf-8") as file:
                return [$x.strip() for $x in file]
        """,
        ("$f('sample.txt') == ['one', 'two', 'three']",),
        '"notes.txt"',
    ),
    classic(
        "counting lines",
        "统计文件行数",
        "count_lines line_count number_of_lines file_length",
        (PATH,),
        """counts the lines of the file $a
        returns the number of lines in the file $a
        tells how many lines the file $a has
        opens the file $a and counts its lines""",
        """
        def $f($a):
            with open($a, encoding="utf-8") as file:
                return sum(1 for _ in file)
        """,
        ("$f('sample.txt') == 3",),
        '"notes.txt"',
    ),
    classic(
        "writing a file",
        "写入文件",
        "write_text save_text save_file store_text write_to_file",
        (PATH, "string text content data body"),
        """writes $b to the file $a
        saves the text $b in the file $a
        stores the string $b in the file $a
        writes the text $b into the file at $a""",
        """
        def $f($a, $b):
            with open($a, "w", encoding="utf-8") as file:
                file.write($b)
        """,
        ("$f('new.txt', 'hi') is None and open('new.txt').read() == 'hi'",),
        '"notes.txt", "hello"',
    ),
    classic(
        "capitalising words",
        "单词首字母大写",
        "capitalize_words title_words capitalise_all upper_first",
        (TEXT,),
        """capitalizes every word in $a
        returns $a with the first letter of each word in upper case
        makes every word of $a start with a capital letter
        turns the first letter of all words in $a into upper case""",
        """
        def $f($a):
            return " ".join($x.capitalize() for $x in $a.split())
        """,
        ("$f('ab cd') == 'Ab Cd'", "$f('') == ''"),
        '"hello world"',
    ),
    classic(
        "longest word",
        "最长的单词",
        "longest_word find_longest get_longest_word longest",
        (TEXT,),
        """returns the longest word in $a
        finds the longest word of the string $a
        gives the word of $a with the most letters
        picks the longest word from $a""",
        """
        def $f($a):
            return max($a.split(), key=len)
        """,
        ("$f('a bbb cc') == 'bbb'",),
        '"the quick brown fox"',
    ),
    classic(
        "merging dictionaries",
        "合并字典",
        "merge_dicts combine_dicts join_dicts merge",
        ("dictionary a first left d1", "dictionary b second right d2"),
        """merges the dictionaries $a and $b
        returns one dictionary made of $a and $b
        combines the dicts $a and $b, where $b wins
        joins two dictionaries $a and $b""",
        """
        def $f($a, $b):
            return {**$a, **$b}
        """,
        ("$f({'x': 1}, {'y': 2}) == {'x': 1, 'y': 2}", "$f({'x': 1}, {'x': 2}) == {'x': 2}"),
        '{"x": 1}, {"y": 2}',
    ),
    classic(
        "adding two numbers",
        "两数相加",
        "add add_numbers sum_two plus add_two",
        ("number a x first left", "number b y second right"),
        """returns the sum of $a and $b
        adds $a and $b
        adds two numbers $a and $b
        computes $a plus $b""",
        """
        def $f($a, $b):
            return $a + $b
        """,
        ("$f(2, 3) == 5", "$f(-1, 1) == 0"),
        "2, 3",
    ),
    classic(
        "power",
        "求幂",
        "power raise_to compute_power pow_int",
        ("number base x b", "integer exponent n e"),
        """returns $a to the power of $b
        raises $a to the power $b
        computes $a raised to $b
        calculates $a to the $b-th power with a loop""",
        """
        def $f($a, $b):
            $r = 1
            for _ in range($b):
                $r *= $a
            return $r
        """,
        ("$f(2, 3) == 8", "$f(5, 0) == 1"),
        "2, 10",
    ),
)

LOCALS: dict[str, Pool] = {
    "r": spaced("result results output found collected answer res out"),
    "x": spaced("item value element entry x part piece current"),
    "i": spaced("i k n step index idx"),
}
# What the chat answers use, so that a greedy answer has one best continuation.
PLAIN_LOCALS = {"r": "result", "x": "item", "i": "i"}
