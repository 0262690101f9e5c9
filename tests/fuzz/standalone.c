/* SPDX-License-Identifier: MIT */
/*
 * main() of a fuzz target in builds without libFuzzer: runs it over the files
 * that are named, and over the files of the directories that are named.
 */
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

#include "fuzz.h"

static unsigned long inputs;

static int run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	size_t len = 0, got, room = 0;

	if (!file) {
		perror(path);
		return 1;
	}
	do {
		if (len == room) {
			room = room ? 2 * room : 4096;
			data = realloc(data, room);
			if (!data)
				abort();
		}
		got = fread(data + len, 1, room - len, file);
		len += got;
	} while (got);
	fclose(file);
	/* Of its exact length, so that a sanitizer sees a read behind the end. */
	data = realloc(data, len ? len : 1);
	LLVMFuzzerTestOneInput(data, len);
	free(data);
	inputs++;
	return 0;
}

static int run_directory(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int failed = 0;

	if (!directory) {
		perror(path);
		return 1;
	}
	while ((entry = readdir(directory))) {
		char name[PATH_MAX];

		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) < (int)sizeof(name))
			failed |= run_file(name);
	}
	closedir(directory);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (!stat(argv[i], &st) && S_ISDIR(st.st_mode))
			failed |= run_directory(argv[i]);
		else
			failed |= run_file(argv[i]);
	}
	printf("%lu inputs\n", inputs);
	return failed || !inputs;
}
