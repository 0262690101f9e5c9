# SPDX-License-Identifier: MIT
# Completion of canalctl(1) in bash.
_canalctl() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command="" i
	local options="--socket --json --help --version"

	case $before in
	-s | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	-g | --guest)
		return
		;;
	esac
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		status | sockets | ports) command=${COMP_WORDS[i]} ;;
		esac
	done
	[[ $command == sockets ]] && options+=" --guest --listening --tcp --udp --ipv4 --ipv6"
	[[ $command ]] || options="status sockets ports $options"
	mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -F _canalctl canalctl
