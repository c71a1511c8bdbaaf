/* Counters in a shared mapping, so that they survive a crash and add up over processes. */
#include "faulty.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct counts own; /* when there is no file */
static struct counts *mapped;
static struct process_record *mine;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_counts(void) {
  mapped = &own;
  const char *path = getenv("FAULTY_COUNTS");
  const int file = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file >= 0) {
    if (ftruncate(file, sizeof(struct counts)) == 0) {
      void *memory = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      if (memory != MAP_FAILED) mapped = memory;
    }
    close(file);
  }
  mapped->magic = COUNTS_MAGIC;
  mine = &mapped->process[atomic_fetch_add(&mapped->processes, 1) % PROCESS_RING];
  memset(mine, 0, sizeof *mine);
  atomic_store(&mine->pid, (uint32_t)getpid());
}

struct counts *counts(void) {
  pthread_once(&once, open_counts);
  return mapped;
}

struct process_record *counts_process(void) {
  pthread_once(&once, open_counts);
  return mine;
}

struct login_record *counts_login(const unsigned char *pin, CK_ULONG length) {
  struct counts *all = counts();
  struct login_record *record = &all->login[atomic_fetch_add(&all->logins, 1) % LOGIN_RING];
  uint64_t hash = UINT64_C(14695981039346656037);
  for (CK_ULONG i = 0; pin != NULL && i < length; i++) hash = (hash ^ pin[i]) * UINT64_C(1099511628211);
  *record = (struct login_record){.at_ms = now_ms(), .pin_hash = hash, .pid = (uint32_t)getpid(), .answer = UINT32_MAX};
  return record;
}

static void change(_Atomic int32_t *value, _Atomic int32_t *most, int by) {
  const int32_t now = atomic_fetch_add(value, by) + by;
  int32_t seen = atomic_load(most);
  while (now > seen && !atomic_compare_exchange_weak(most, &seen, now)) {
  }
}

void counts_sessions(int by) {
  struct process_record *process = counts_process();
  change(&process->open_sessions, &process->most_sessions, by);
}

void counts_running(int by) {
  struct process_record *process = counts_process();
  change(&process->running, &process->most_running, by);
}
