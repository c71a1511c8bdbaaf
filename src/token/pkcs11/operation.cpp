/**
 * C_…Init and its operation in one job of libuv's pool, as one more function of the pkcs11js addon.
 *
 * pkcs11js makes every C_EncryptInit, C_DecryptInit and C_SignInit on the thread of JavaScript. A module that goes to its
 * HSM for them stops the whole process for a round trip, whatever the number of sessions. Here both calls, which belong
 * together on one session, are made by one thread of the pool.
 *
 * operate(pkcs11, operation, session, key, mechanism, iv, aad, tagBits, input, output): Promise<number>
 *   pkcs11     a PKCS11 object of pkcs11js with its library loaded: the job calls by that object's function list. A second
 *              C_GetFunctionList would not do: p11-kit's modules give each caller an instance of its own
 *   operation  0: C_Encrypt, 1: C_Decrypt, 2: C_Sign
 *   session    handle, the 8 bytes of a CK_ULONG
 *   key        handle, the same
 *   mechanism  CKM_ number
 *   iv         Buffer, or null where the mechanism has no parameter. A module may write an IV of its own there: after
 *              C_Encrypt the Buffer holds it. 0 bytes are a null pointer to the module: make one (Luna in FIPS mode)
 *   aad        Buffer, or null
 *   tagBits    0: the mechanism's parameter is the IV as it is. Else CK_GCM_PARAMS of PKCS#11 v2.40, with IV, aad and this
 *   input      Buffer, any length; a module never sees a null pointer for 0 bytes (SoftHSM2 answers CKR_ARGUMENTS_BAD)
 *   output     Buffer, as long as the result may be
 * Resolves with the length that the module gave. Only where that is no more than `output` has is anything in `output`, so
 * the caller must look. Rejects with an Error that says CKR_NAME:number, as pkcs11js does, and whose `method` is the function
 * that answered it. Throws a TypeError for arguments that are none of these.
 *
 * Memory: a job owns all that the module sees, in one block whose size follows from the caller's Buffers alone, and has no
 * pointer into JavaScript's memory. It keeps the PKCS11 object (whose finalizer closes the library) until it ends. The block
 * is zeroed at its beginning, so that a length that lies shows nobody else's bytes, and at its end.
 *
 * Compiled in one unit with pkcs11js 2.1.7, whose class Pkcs11 and names of return values it uses (scripts/lib/addon.sh).
 */
#include <node_api.h>
#undef NAPI_MODULE
#define NAPI_MODULE(name, initialize) // This addon registers itself below.
#include "main.cpp"

#include <cstdint>
#include <string.h>

namespace operation {

struct Kind
{
  const char *initName;
  const char *name;
  CK_C_EncryptInit CK_FUNCTION_LIST::*init;
  CK_C_Encrypt CK_FUNCTION_LIST::*call;
};

const Kind kinds[] = {
    {"C_EncryptInit", "C_Encrypt", &CK_FUNCTION_LIST::C_EncryptInit, &CK_FUNCTION_LIST::C_Encrypt},
    {"C_DecryptInit", "C_Decrypt", &CK_FUNCTION_LIST::C_DecryptInit, &CK_FUNCTION_LIST::C_Decrypt},
    {"C_SignInit", "C_Sign", &CK_FUNCTION_LIST::C_SignInit, &CK_FUNCTION_LIST::C_Sign},
};

struct Bytes
{
  uint8_t *data = nullptr;
  size_t length = 0;
};

struct Job
{
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref pkcs11 = nullptr, callerIv = nullptr, callerOutput = nullptr;
  const Kind *kind = nullptr;
  CK_C_EncryptInit init = nullptr;
  CK_C_Encrypt call = nullptr;
  CK_SESSION_HANDLE session = 0;
  CK_OBJECT_HANDLE key = 0;
  CK_MECHANISM mechanism = {0, nullptr, 0};
  CK_GCM_PARAMS gcm = {};
  Bytes block, iv, aad, input, output;
  /** What `output` holds, as the module says. */
  CK_ULONG length = 0;
  CK_RV answer = CKR_FUNCTION_CANCELED;
  bool initialized = false;

  ~Job()
  {
    if (block.data == nullptr) return;
    explicit_bzero(block.data, block.length);
    free(block.data);
  }
};

/** On a thread of the pool. */
void Execute(napi_env, void *data)
{
  Job *job = static_cast<Job *>(data);
  job->answer = job->init(job->session, &job->mechanism, job->key);
  if (job->answer != CKR_OK) return;
  job->initialized = true;
  job->length = job->output.length;
  job->answer = job->call(job->session, job->input.data, job->input.length, job->output.data, &job->length);
}

/** Copies into a Buffer of the caller's that is as long as it was; one that was detached meanwhile gets nothing. */
bool GiveBack(napi_env env, napi_ref reference, const Bytes &from, size_t length)
{
  napi_value buffer = nullptr;
  Bytes to;
  if (napi_get_reference_value(env, reference, &buffer) != napi_ok || buffer == nullptr ||
      napi_get_buffer_info(env, buffer, reinterpret_cast<void **>(&to.data), &to.length) != napi_ok || to.length != from.length)
    return false;
  if (length > 0) memcpy(to.data, from.data, length);
  return true;
}

napi_value Failure(napi_env env, const Job *job, CK_RV answer)
{
  char text[100];
  snprintf(text, sizeof text, "%s:%lu", get_error_name(answer), answer);
  napi_value message, error, method;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, nullptr, message, &error);
  napi_create_string_utf8(env, job->initialized ? job->kind->name : job->kind->initName, NAPI_AUTO_LENGTH, &method);
  napi_set_named_property(env, error, "method", method);
  return error;
}

void Release(napi_env env, Job *job)
{
  for (napi_ref reference : {job->pkcs11, job->callerIv, job->callerOutput})
    if (reference != nullptr) napi_delete_reference(env, reference);
  if (job->work != nullptr) napi_delete_async_work(env, job->work);
  delete job;
}

/** On the thread of JavaScript. */
void Complete(napi_env env, napi_status, void *data)
{
  Job *job = static_cast<Job *>(data);
  CK_RV answer = job->answer;
  if (answer == CKR_OK && job->length <= job->output.length)
  {
    const bool given = GiveBack(env, job->callerOutput, job->output, job->length) &&
                       (job->callerIv == nullptr || GiveBack(env, job->callerIv, job->iv, job->iv.length));
    if (!given) answer = CKR_FUNCTION_CANCELED;
  }
  if (answer == CKR_OK)
  {
    napi_value length;
    napi_create_double(env, static_cast<double>(job->length), &length);
    napi_resolve_deferred(env, job->deferred, length);
  }
  else
  {
    napi_reject_deferred(env, job->deferred, Failure(env, job, answer));
  }
  Release(env, job);
}

bool ReadBuffer(napi_env env, napi_value value, Bytes *bytes)
{
  bool isBuffer = false;
  return napi_is_buffer(env, value, &isBuffer) == napi_ok && isBuffer &&
         napi_get_buffer_info(env, value, reinterpret_cast<void **>(&bytes->data), &bytes->length) == napi_ok;
}

bool ReadOptional(napi_env env, napi_value value, Bytes *bytes, bool *given)
{
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok) return false;
  *given = type != napi_null;
  return !*given || ReadBuffer(env, value, bytes);
}

bool ReadHandle(napi_env env, napi_value value, CK_ULONG *handle)
{
  Bytes bytes;
  if (!ReadBuffer(env, value, &bytes) || bytes.length != sizeof *handle) return false;
  memcpy(handle, bytes.data, sizeof *handle);
  return true;
}

/** The function list that pkcs11js has loaded; null for what is no PKCS11 object, or one without a library. */
const CK_FUNCTION_LIST *ReadList(napi_env env, napi_value value)
{
  napi_value constructor = nullptr;
  bool isOne = false;
  Pkcs11 *pkcs11 = nullptr;
  if (napi_get_reference_value(env, constructorRef, &constructor) != napi_ok ||
      napi_instanceof(env, value, constructor, &isOne) != napi_ok || !isOne ||
      napi_unwrap(env, value, reinterpret_cast<void **>(&pkcs11)) != napi_ok || pkcs11->handle == nullptr)
    return nullptr;
  return pkcs11->functionList;
}

/** Puts a copy of the caller's bytes, or zeros, at the block's next place; each place is aligned for a pointer. */
Bytes Place(uint8_t **next, const Bytes &from, bool copy)
{
  const Bytes place = {*next, from.length};
  if (copy && from.length > 0) memcpy(place.data, from.data, from.length);
  *next += (from.length + 16) & ~size_t{15};
  return place;
}

napi_value Operate(napi_env env, napi_callback_info info)
{
  napi_value argument[10];
  size_t count = 10;
  uint32_t kind = 0, mechanism = 0, tagBits = 0;
  bool hasIv = false, hasAad = false;
  Bytes iv, aad, input, output;
  CK_ULONG session = 0, key = 0;
  const CK_FUNCTION_LIST *list = nullptr;
  if (napi_get_cb_info(env, info, &count, argument, nullptr, nullptr) != napi_ok || count != 10 ||
      (list = ReadList(env, argument[0])) == nullptr || napi_get_value_uint32(env, argument[1], &kind) != napi_ok ||
      kind >= sizeof kinds / sizeof *kinds || !ReadHandle(env, argument[2], &session) || !ReadHandle(env, argument[3], &key) ||
      napi_get_value_uint32(env, argument[4], &mechanism) != napi_ok || !ReadOptional(env, argument[5], &iv, &hasIv) ||
      !ReadOptional(env, argument[6], &aad, &hasAad) || napi_get_value_uint32(env, argument[7], &tagBits) != napi_ok ||
      !ReadBuffer(env, argument[8], &input) || !ReadBuffer(env, argument[9], &output))
  {
    napi_throw_type_error(env, nullptr, "operate(pkcs11, operation, session, key, mechanism, iv, aad, tagBits, input, output)");
    return nullptr;
  }

  // One byte more than each place needs: none is empty, so that none is a null pointer.
  const size_t bytes = iv.length + aad.length + input.length + output.length + 4 * 16;
  Job *job = new Job;
  job->block = {static_cast<uint8_t *>(calloc(1, bytes)), bytes};
  if (job->block.data == nullptr)
  {
    job->block.length = 0;
    delete job;
    napi_throw_error(env, nullptr, "CKR_HOST_MEMORY:2");
    return nullptr;
  }
  uint8_t *next = job->block.data;
  job->iv = Place(&next, iv, true);
  job->aad = Place(&next, aad, true);
  job->input = Place(&next, input, true);
  job->output = Place(&next, output, false);

  job->kind = &kinds[kind];
  job->init = list->*kinds[kind].init;
  job->call = list->*kinds[kind].call;
  job->session = session;
  job->key = key;
  job->mechanism.mechanism = mechanism;
  if (tagBits > 0)
  {
    job->gcm = {iv.length > 0 ? job->iv.data : nullptr, iv.length, iv.length * 8, aad.length > 0 ? job->aad.data : nullptr, aad.length, tagBits};
    job->mechanism.pParameter = &job->gcm;
    job->mechanism.ulParameterLen = sizeof job->gcm;
  }
  else if (hasIv)
  {
    job->mechanism.pParameter = job->iv.data;
    job->mechanism.ulParameterLen = iv.length;
  }

  napi_value promise, name;
  napi_create_promise(env, &job->deferred, &promise);
  if (job->init == nullptr || job->call == nullptr)
  {
    napi_reject_deferred(env, job->deferred, Failure(env, job, CKR_FUNCTION_NOT_SUPPORTED));
    Release(env, job);
    return promise;
  }
  napi_create_reference(env, argument[0], 1, &job->pkcs11);
  napi_create_reference(env, argument[9], 1, &job->callerOutput);
  if (kind == 0 && hasIv && iv.length > 0) napi_create_reference(env, argument[5], 1, &job->callerIv);
  napi_create_string_utf8(env, job->kind->name, NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, Execute, Complete, job, &job->work);
  napi_queue_async_work(env, job->work);
  return promise;
}

} // namespace operation

NAPI_MODULE_INIT()
{
  napi_value function;
  exports = Init(env, exports);
  napi_create_function(env, "operate", NAPI_AUTO_LENGTH, operation::Operate, nullptr, &function);
  napi_set_named_property(env, exports, "operate", function);
  return exports;
}
