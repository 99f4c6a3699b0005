// The messages of the control channel (node <-> tracker), the node channel (node <-> node) and the local socket
// (command <-> node). One vocabulary, a file a conversation: a node answers what a tracker answers, as far as it knows.
//
// A message with a `Reply` is a request; one without is a note. All values; any thread.
#pragma once

#include "wire/messages/blocks.h"
#include "wire/messages/catalog.h"
#include "wire/messages/check_up.h"
#include "wire/messages/common.h"
#include "wire/messages/gets.h"
#include "wire/messages/glance.h"
#include "wire/messages/mounts.h"
#include "wire/messages/orders.h"
#include "wire/messages/origins.h"
#include "wire/messages/packs.h"
#include "wire/messages/path_index.h"
#include "wire/messages/places.h"
#include "wire/messages/ranges.h"
#include "wire/messages/registration.h"
#include "wire/messages/small_files.h"
#include "wire/messages/status.h"
#include "wire/messages/stores.h"
#include "wire/messages/swarms.h"
