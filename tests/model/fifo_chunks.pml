/* SPDX-License-Identifier: MIT */
/*
 * The chunks of a FIFO (common/fifo.h): table, take back, pool.
 *
 * Idea: a chunk is two bytes and the table has four entries. The producer puts
 * chunks into the table, from behind the consumer first, else from the pool;
 * what comes back and is not needed goes to the pool, where another socket may
 * take it and write into it.
 *
 * Properties: the consumer finds a chunk behind every published byte, and the
 * byte that was published.
 *
 * Twins that must fail:
 *	WHOLE_TABLE	the FIFO may hold as many bytes as the whole table: head
 *			in the middle of a chunk, tail and head then share a
 *			table entry, and take_back() takes away the tail's chunk
 *	TABLE_LESS_ONE	one chunk less is not enough: a producer that filled its
 *			last free entry from the pool, because its look at head
 *			was old, then comes to an entry that it has not taken
 *			back yet, writes on in that chunk, and takes it back later
 *	EARLY_TAIL	tail is published before the byte (R1)
 *	EARLY_HEAD	head is published before the byte was read (R2)
 */
#define CHUNK 2
#define TABLE 4
#define CHUNKS 4
#define TOTAL 18
#ifdef WHOLE_TABLE
#define LIMIT (TABLE * CHUNK)
#else
#ifdef TABLE_LESS_ONE
#define LIMIT (TABLE * CHUNK - CHUNK)
#else
#define LIMIT (TABLE * CHUNK - 2 * CHUNK)
#endif
#endif
#define NONE 255
#define SCRIBBLE 99

byte table[TABLE];
byte bytes[CHUNKS * CHUNK];
bool in_pool[CHUNKS];
byte head, tail;

#define ENTRY(pos) table[((pos) / CHUNK) % TABLE]

inline pool_take(id)
{
	d_step {
		id = 0;
		do
		:: id < CHUNKS && !in_pool[id] -> id++
		:: else -> break
		od;
		if
		:: id < CHUNKS -> in_pool[id] = false
		:: else -> id = NONE
		fi
	}
}

/* Whoever takes it next writes into it: as well at once. */
inline pool_give(id)
{
	d_step {
		bytes[id * CHUNK] = SCRIBBLE;
		bytes[id * CHUNK + 1] = SCRIBBLE;
		in_pool[id] = true
	}
}

/* canal_fifo_take_back(); only the producer looks at reclaim and at NONE. */
inline take_back(id)
{
	id = NONE;
	d_step {
		do
		:: id == NONE && reclaim + CHUNK <= seen ->
			id = ENTRY(reclaim);
			ENTRY(reclaim) = NONE;
			reclaim = reclaim + CHUNK
		:: else -> break
		od
	}
}

proctype producer()
{
	byte reclaim, seen, id;

	do
	:: tail == TOTAL -> break
	:: else ->
		seen = head;
		if
		:: tail - seen >= LIMIT -> head != seen
		:: else ->
			if
			:: ENTRY(tail) == NONE ->
				take_back(id);
				if
				:: id == NONE -> pool_take(id)
				:: else
				fi;
				ENTRY(tail) = id;
				id = 0
			:: else
			fi;
			if
			:: ENTRY(tail) == NONE -> head != seen
			:: else ->
#ifdef EARLY_TAIL
				tail++;
				bytes[ENTRY(tail - 1) * CHUNK + (tail - 1) % CHUNK] = tail - 1
#else
				bytes[ENTRY(tail) * CHUNK + tail % CHUNK] = tail;
				tail++
#endif
			fi;
			/* What comes back and is not needed goes to the pool. */
			if
			:: reclaim + CHUNK <= seen ->
				take_back(id);
				if
				:: id != NONE -> pool_give(id)
				:: else
				fi;
				id = 0
			:: true
			fi
		fi
	od
}

proctype consumer()
{
	byte id;

	do
	:: head == TOTAL -> break
	:: else ->
		tail != head;
#ifdef EARLY_HEAD
		head++;
		id = ENTRY(head - 1);
		assert(id != NONE);
		assert(bytes[id * CHUNK + (head - 1) % CHUNK] == head - 1);
#else
		id = ENTRY(head);
		assert(id != NONE);
		assert(bytes[id * CHUNK + head % CHUNK] == head);
		head++;
#endif
		id = 0
	od
}

init
{
	atomic {
		byte i;

		for (i : 0 .. TABLE - 1) {
			table[i] = NONE
		}
		for (i : 0 .. CHUNKS - 1) {
			in_pool[i] = true
		}
		i = 0;
		run producer();
		run consumer()
	}
}
