# bash completion for meshget, meshfile, meshmount, meshvol, meshseed, meshtracker and mm-disk: commands, flags, and mesh paths, directory by directory,
# with and without the file: prefix. Flags come from --help, so that they are always those of the installed programs.

_meshswarm_flags() {  # COMMAND [SUBCOMMAND]
    { "$1" --help; [[ $# -eq 1 ]] || "$@" --help; } 2>/dev/null | grep -oE -- '(^|[ ,])--?[a-z][a-z0-9-]*' | tr -d ' ,' | sort -u
}

# The flags among the words typed so far that say which mesh is meant.
_meshswarm_context() {
    context=()
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --files | --tracker | --control | --state | --config | --key)
                local value=${COMP_WORDS[i + 1]}
                # bash splits HOST:PORT into three words.
                [[ ${COMP_WORDS[i + 2]} == : ]] && value+=:${COMP_WORDS[i + 3]}
                context+=("${COMP_WORDS[i]}" "$value")
                ;;
            --open) context+=("${COMP_WORDS[i]}") ;;
        esac
    done
}

# WORD is what was typed, put together and without its quotes; BEFORE what of it stands before the last word break, and
# is there already; QUOTE the quote that is open, if any.
_meshswarm_paths() {  # WORD BEFORE QUOTE [--local]
    local word=$1 before=$2 quote=$3 context i IFS=$'\n'
    shift 3
    _meshswarm_context
    mapfile -t COMPREPLY < <(meshfile "${context[@]}" complete "$@" -- "$word" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$before"}
        # Quoted here, and not by readline, which leaves $ and ` as they are.
        case $quote in
            \') COMPREPLY[i]=${COMPREPLY[i]//\'/\'\\\'\'} ;;
            \") COMPREPLY[i]=$(sed 's/[\\"$`]/\\&/g' <<<"${COMPREPLY[i]}") ;;
            *) printf -v "COMPREPLY[i]" %q "${COMPREPLY[i]}" ;;
        esac
    done
    compopt -o filenames -o noquote 2>/dev/null
}

_meshswarm() {
    COMPREPLY=()
    local program=$1 word=${COMP_WORDS[COMP_CWORD]} before lead= quote= command= i=$COMP_CWORD
    # Puts a word that bash split at its colons together again, and takes its quotes off.
    while ((i > 1)) && [[ $word == :* || ${COMP_WORDS[i - 1]} == : ]]; do
        ((i--))
        word=${COMP_WORDS[i]}$word
    done
    before=${COMP_WORDS[i - 1]}
    if ((i < COMP_CWORD)); then
        lead=${word%"${COMP_WORDS[COMP_CWORD]#:}"}
        lead=$(sed 's/\\\(.\)/\1/g' <<<"$lead")
    fi
    [[ $word == [\'\"]* ]] && quote=${word:0:1}
    # What quotes a character outside of quotes and in each kind of them (bash(1), QUOTING).
    case $word in
        \'*) word=${word#\'} ;;
        \"*)
            word=${word#\"}
            word=$(sed 's/\\\([\\"$`]\)/\1/g' <<<"$word") ;;
        *) word=$(sed 's/\\\(.\)/\1/g' <<<"$word") ;;
    esac
    case $before in
        --files | --state | --follow)
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            compopt -o filenames
            return ;;
        --control | --config | --key | --cacert | --seed | --output | -c | --place)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            compopt -o filenames
            return ;;
        --prefetch) mapfile -t COMPREPLY < <(compgen -W "all boot none" -- "$word"); return ;;
        -o)
            if [[ ${program##*/} == meshmount ]]; then
                mapfile -t COMPREPLY < <(compgen -W "ro allow_other noexec noatime" -- "$word")
                return
            fi
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            compopt -o filenames
            return ;;
        --hash) mapfile -t COMPREPLY < <(compgen -W "ondemand eager" -- "$word"); return ;;
        --refuse) mapfile -t COMPREPLY < <(compgen -W "get delete url" -- "$word"); return ;;
        --control-allow) mapfile -t COMPREPLY < <(compgen -W "store-write" -- "$word"); return ;;
        --log-level) mapfile -t COMPREPLY < <(compgen -W "error warning info" -- "$word"); return ;;
        --log-format) mapfile -t COMPREPLY < <(compgen -W "text json" -- "$word"); return ;;
        --tracker | --listen | --advertise | --name | --from | --on | --linger | --timeout | --max-* | --spool | --ignore | --control-group) return ;;
    esac
    if [[ ${program##*/} == meshfile ]]; then
        for ((i = 1; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
                cache | cancel | delete | diff | doctor | get | info | list | put | status | stream | torrent | wait) command=${COMP_WORDS[i]}; break ;;
            esac
        done
    fi
    if [[ ${program##*/} == meshvol ]]; then
        for ((i = 1; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
                attach | clone | commit | detach | drop | have | info | list | mount | new | resize | umount) command=${COMP_WORDS[i]}; break ;;
            esac
        done
    fi
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_meshswarm_flags "$program" $command)" -- "$word")
        return
    fi
    case ${program##*/}:$command in
        meshfile:) mapfile -t COMPREPLY < <(compgen -W "cache cancel delete diff doctor get info list put status stream torrent wait" -- "$word") ;;
        meshfile:status) ;;
        meshmount:)
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            compopt -o filenames ;;
        meshvol:) mapfile -t COMPREPLY < <(compgen -W "attach clone commit detach drop have info list mount new resize umount" -- "$word") ;;
        meshvol:clone | meshvol:commit) _meshswarm_paths "$word" "$lead" "$quote" ;;
        meshvol:mount | meshvol:umount)
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            compopt -o filenames ;;
        meshfile:put) _meshswarm_paths "$word" "$lead" "$quote" --local ;;
        meshfile:delete)
            if [[ " ${COMP_WORDS[*]} " == *" --mesh "* || " ${COMP_WORDS[*]} " == *" --on "* ]]; then _meshswarm_paths "$word" "$lead" "$quote"; else _meshswarm_paths "$word" "$lead" "$quote" --local; fi ;;
        meshfile:* | meshget: | mm-disk:) _meshswarm_paths "$word" "$lead" "$quote" ;;
    esac
}

complete -F _meshswarm meshget meshfile meshmount meshvol meshseed meshtracker mm-disk
