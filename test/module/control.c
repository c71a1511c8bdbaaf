/* The control file: lines of tab-separated words, replaced as a whole by rename(2). */
#include "faulty.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FAULTY_NAME(name) #name,
static const char *const function_names[] = {FAULTY_FUNCTIONS(FAULTY_NAME)};

/* A call may still read an instruction that was replaced meanwhile; it is reused only after this many more. */
#define KEPT 64
static struct control kept[KEPT];
static _Atomic(struct control *) present = &kept[0];
static unsigned kept_next = 1;
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t seen_inode, seen_mtime, seen_size;

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void parse_functions(struct rule *rule, char *list) {
  if (strcmp(list, "*") == 0) {
    memset(rule->functions, 0xff, sizeof rule->functions);
    return;
  }
  char *rest = NULL;
  for (char *name = strtok_r(list, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
    for (size_t i = 0; i < F_COUNT; i++) {
      if (strcmp(name, function_names[i]) == 0) rule->functions[i / 64] |= UINT64_C(1) << (i % 64);
    }
  }
}

static void parse_rule_word(struct rule *rule, const char *key, char *value) {
  static const char *const actions[] = {"none", "delay", "answer", "hang", "stall", "segv", "abort", "exit", "garbage", "claim", "print"};
  const long long number = strtoll(value, NULL, 0);
  if (strcmp(key, "fn") == 0) parse_functions(rule, value);
  else if (strcmp(key, "do") == 0) {
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
      if (strcmp(value, actions[i]) == 0) rule->action = (enum action)i;
    }
  } else if (strcmp(key, "value") == 0) rule->value = (CK_ULONG)number;
  else if (strcmp(key, "jitter") == 0) rule->jitter_us = (uint64_t)number;
  else if (strcmp(key, "id") == 0) rule->id = (uint32_t)number;
  else if (strcmp(key, "skip") == 0) rule->skip = (uint32_t)number;
  else if (strcmp(key, "times") == 0) rule->times = (uint32_t)number;
  else if (strcmp(key, "oneIn") == 0) rule->one_in = (uint32_t)number;
  else if (strcmp(key, "from") == 0) rule->from_ms = number;
  else if (strcmp(key, "until") == 0) rule->until_ms = number;
  else if (strcmp(key, "length") == 0) rule->length = number;
  else if (strcmp(key, "minLength") == 0) rule->min_length = number;
  else if (strcmp(key, "after") == 0) rule->after = number != 0;
  else if (strcmp(key, "leaveOpen") == 0) rule->leave_open = number != 0;
  else if (strcmp(key, "text") == 0) snprintf(rule->text, sizeof rule->text, "%s", value);
}

static void parse_rule(struct control *control, char *words) {
  if (control->rule_count == MAX_RULES) return;
  struct rule *rule = &control->rules[control->rule_count++];
  memset(rule, 0, sizeof *rule);
  rule->length = rule->min_length = -1;
  char *rest = NULL;
  for (char *word = strtok_r(words, "\t", &rest); word != NULL; word = strtok_r(NULL, "\t", &rest)) {
    char *value = strchr(word, '=');
    if (value == NULL) continue;
    *value++ = '\0';
    parse_rule_word(rule, word, value);
  }
}

static void parse_line(struct control *c, char *line) {
  char *value = strchr(line, '\t');
  if (value == NULL) return;
  *value++ = '\0';
  if (strcmp(line, "rule") == 0) {
    parse_rule(c, value);
    return;
  }
  if (strcmp(line, "hide") == 0) {
    if (c->hidden_count < MAX_HIDDEN) c->hidden[c->hidden_count++] = strtoul(value, NULL, 0);
    return;
  }
  const struct {
    const char *name;
    char *text;
    size_t size;
  } texts[] = {
      {"manufacturer", c->manufacturer, sizeof c->manufacturer},
      {"model", c->model, sizeof c->model},
      {"serial", c->serial, sizeof c->serial},
      {"libraryManufacturer", c->library_manufacturer, sizeof c->library_manufacturer},
      {"libraryDescription", c->library_description, sizeof c->library_description},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    if (strcmp(line, texts[i].name) == 0) snprintf(texts[i].text, texts[i].size, "%s", value);
  }
  const unsigned long long number = strtoull(value, NULL, 0);
#define NUMBER(name, field, type) \
  if (strcmp(line, name) == 0) c->field = (type)number;
  NUMBER("ivMode", iv_mode, enum iv_mode)
  NUMBER("ivFault", iv_fault, enum iv_fault)
  NUMBER("ivPool", iv_pool, uint32_t)
  NUMBER("ivAtInit", iv_at_init, bool)
  NUMBER("gcmLimit", gcm_limit, CK_ULONG)
  NUMBER("gcmSinglePart", gcm_single_part, bool)
  NUMBER("wrongTag", wrong_tag, CK_RV)
  NUMBER("maxSessions", max_sessions, CK_ULONG)
  NUMBER("handlesAtOnce", handles_at_once, CK_ULONG)
  NUMBER("hideObjects", hide_objects, CK_ULONG)
  NUMBER("largeSlots", large_slots, bool)
  NUMBER("hideMaxSessions", hide_max_sessions, bool)
  NUMBER("refuseReadOnly", refuse_read_only, CK_RV)
  NUMBER("sessionsLost", sessions_lost, uint32_t)
  NUMBER("sessionsLostCode", sessions_lost_code, CK_RV)
  NUMBER("loginLost", login_lost, uint32_t)
  NUMBER("loginLostCode", login_lost_code, CK_RV)
  NUMBER("objectsStale", objects_stale, uint32_t)
  NUMBER("objectsStaleCode", objects_stale_code, CK_RV)
  NUMBER("wedged", wedged, uint32_t)
  NUMBER("wedgedUntilNewProcess", wedged_until_new_process, bool)
  NUMBER("removed", removed, bool)
  NUMBER("removals", removals, uint32_t)
  NUMBER("removedSticky", removed_sticky, bool)
  NUMBER("removedCode", removed_code, CK_RV)
  NUMBER("haEvent", ha_event, uint32_t)
  NUMBER("haTimeoutMs", ha_timeout_ms, uint64_t)
  NUMBER("firmwareMajor", firmware_major, int)
  NUMBER("firmwareMinor", firmware_minor, int)
  NUMBER("flagsSet", flags_set, CK_FLAGS)
  NUMBER("flagsClear", flags_clear, CK_FLAGS)
#undef NUMBER
}

static void load(const char *path) {
  FILE *file = fopen(path, "re");
  if (file == NULL) return;
  struct control *next = &kept[kept_next++ % KEPT];
  memset(next, 0, sizeof *next);
  next->firmware_major = next->firmware_minor = -1;
  char line[4096];
  while (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    parse_line(next, line);
  }
  fclose(file);
  atomic_store(&present, next);
}

const struct control *control_now(void) {
  const char *path = getenv("FAULTY_CONTROL");
  struct stat file;
  if (path == NULL || stat(path, &file) != 0) return atomic_load(&present);
  const uint64_t mtime = (uint64_t)file.st_mtim.tv_sec * UINT64_C(1000000000) + (uint64_t)file.st_mtim.tv_nsec;
  if (atomic_load(&seen_inode) == file.st_ino && atomic_load(&seen_mtime) == mtime &&
      atomic_load(&seen_size) == (uint64_t)file.st_size) {
    return atomic_load(&present);
  }
  pthread_mutex_lock(&reading);
  if (atomic_load(&seen_inode) != file.st_ino || atomic_load(&seen_mtime) != mtime ||
      atomic_load(&seen_size) != (uint64_t)file.st_size) {
    load(path);
    atomic_store(&seen_inode, file.st_ino);
    atomic_store(&seen_mtime, mtime);
    atomic_store(&seen_size, (uint64_t)file.st_size);
  }
  pthread_mutex_unlock(&reading);
  return atomic_load(&present);
}

bool control_has_rule(uint32_t id) {
  const struct control *control = control_now();
  for (size_t i = 0; i < control->rule_count; i++) {
    if (control->rules[i].id == id) return true;
  }
  return false;
}
