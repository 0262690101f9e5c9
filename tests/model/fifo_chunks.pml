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
 *	ANY_ENTRY	an entry that holds a chunk is taken to be the one for this
 *			position. It may be the one of a round before, which was
 *			not taken back because the look at head was old: the
 *			producer writes on in it, and takes it back later
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
#define LIMIT (TABLE * CHUNK - CHUNK)
#endif
#define NONE 255
#define SCRIBBLE 99

byte table[TABLE];
byte bytes[CHUNKS * CHUNK];
bool in_pool[CHUNKS];
byte head, tail;

#define ENTRY(pos) table[((pos) / CHUNK) % TABLE]
#define START(pos) ((pos) / CHUNK * CHUNK)

/* The position has no chunk yet, whatever its entry holds. */
#ifdef ANY_ENTRY
#define WITHOUT_CHUNK (ENTRY(tail) == NONE)
#else
#define WITHOUT_CHUNK (ENTRY(tail) == NONE || START(tail) - reclaim >= TABLE * CHUNK)
#endif

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

/* All that the consumer has passed: one to use, the others for the pool. */
inline take_all_back(id)
{
	more = NONE;
	do
	:: true ->
		take_back(id);
		if
		:: id == NONE -> break
		:: else
		fi;
		if
		:: more != NONE -> pool_give(more)
		:: else
		fi;
		more = id
	od;
	id = more;
	more = 0
}

proctype producer()
{
	byte reclaim, seen, id, more;

	do
	:: tail == TOTAL -> break
	:: else ->
		seen = head;
		if
		:: tail - seen >= LIMIT -> head != seen
		:: else ->
			if
			:: WITHOUT_CHUNK ->
				take_all_back(id);
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
