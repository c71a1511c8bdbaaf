/*
 * The HSM's floor: AES-GCM decryptions of one key through a PKCS#11 module, from C, with nothing in between.
 *
 * Arguments: module, token label, PIN file, key label, value size in bytes, threads, seconds. Prints operations a second.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

static CK_FUNCTION_LIST *p11;
static CK_SLOT_ID slot;
static CK_OBJECT_HANDLE key;
static size_t size;
static double seconds;
static unsigned char *sealed;
static CK_ULONG sealed_len;
static unsigned char iv[12], aad[26];
static atomic_ulong done_total;

/* CK_GCM_PARAMS of PKCS#11 v2.40, with ulIvBits. */
struct gcm_params {
  CK_BYTE *iv;
  CK_ULONG iv_len, iv_bits;
  CK_BYTE *aad;
  CK_ULONG aad_len, tag_bits;
};

static void check(CK_RV rv, const char *what) {
  if (rv == CKR_OK) return;
  fprintf(stderr, "%s answered 0x%lx\n", what, rv);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void *work(void *unused) {
  (void)unused;
  struct gcm_params params = {iv, sizeof iv, 96, aad, sizeof aad, 128};
  CK_MECHANISM mechanism = {0x1087 /* CKM_AES_GCM */, &params, sizeof params};
  CK_SESSION_HANDLE session;
  check(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), "C_OpenSession");
  unsigned char *out = malloc(size + 64);
  double end = now() + seconds;
  unsigned long done = 0;
  while (now() < end) {
    CK_ULONG n = size + 64;
    check(p11->C_DecryptInit(session, &mechanism, key), "C_DecryptInit");
    check(p11->C_Decrypt(session, sealed, sealed_len, out, &n), "C_Decrypt");
    done++;
  }
  atomic_fetch_add(&done_total, done);
  free(out);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  size = strtoul(argv[5], NULL, 10);
  int threads = atoi(argv[6]);
  seconds = atof(argv[7]);
  void *library = dlopen(argv[1], RTLD_NOW);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  CK_C_GetFunctionList get = (CK_C_GetFunctionList)(uintptr_t)dlsym(library, "C_GetFunctionList");
  check(get(&p11), "C_GetFunctionList");
  CK_C_INITIALIZE_ARGS init = {0};
  init.flags = CKF_OS_LOCKING_OK;
  check(p11->C_Initialize(&init), "C_Initialize");
  CK_SLOT_ID slots[64];
  CK_ULONG count = 64;
  check(p11->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
  for (CK_ULONG i = 0; i < count; i++) {
    CK_TOKEN_INFO info;
    check(p11->C_GetTokenInfo(slots[i], &info), "C_GetTokenInfo");
    if (strncmp((char *)info.label, argv[2], strlen(argv[2])) == 0) slot = slots[i];
  }
  unsigned char pin[256];
  FILE *file = fopen(argv[3], "r");
  if (file == NULL) return 1;
  size_t pin_len = fread(pin, 1, sizeof pin, file);
  fclose(file);
  CK_SESSION_HANDLE session;
  check(p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), "C_OpenSession");
  check(p11->C_Login(session, CKU_USER, pin, pin_len), "C_Login");
  CK_OBJECT_CLASS class = CKO_SECRET_KEY;
  CK_ATTRIBUTE find[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, argv[4], strlen(argv[4])}};
  check(p11->C_FindObjectsInit(session, find, 2), "C_FindObjectsInit");
  CK_ULONG found = 0;
  check(p11->C_FindObjects(session, &key, 1, &found), "C_FindObjects");
  check(p11->C_FindObjectsFinal(session), "C_FindObjectsFinal");
  if (found != 1) return 1;

  struct gcm_params params = {iv, sizeof iv, 96, aad, sizeof aad, 128};
  CK_MECHANISM mechanism = {0x1087, &params, sizeof params};
  unsigned char *plain = calloc(1, size + 1);
  sealed = malloc(size + 64);
  sealed_len = size + 64;
  check(p11->C_EncryptInit(session, &mechanism, key), "C_EncryptInit");
  check(p11->C_Encrypt(session, plain, size, sealed, &sealed_len), "C_Encrypt");

  pthread_t ids[256];
  double start = now();
  for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, work, NULL);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  printf("%.0f\n", atomic_load(&done_total) / (now() - start));
  return 0;
}
